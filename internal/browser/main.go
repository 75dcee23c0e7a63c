// Command browser takes a picture of a page with Chromium. Its test looks at the report of a real run the way a
// person does, on a phone and on a desk. It is a module of its own: nothing that links dovetail needs a browser.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

func main() {
	log.SetFlags(0)
	page := flag.String("page", "", "HTML file to open")
	out := flag.String("out", "", "PNG file to write")
	width := flag.Int64("width", 1100, "width of the window in CSS pixels")
	height := flag.Int64("height", 1060, "height of the window in CSS pixels")
	scale := flag.Float64("scale", 1.25, "pixels of the picture for one of CSS")
	dark := flag.Bool("dark", false, "prefer dark colours")
	all := flag.Bool("all", false, "take the page as a whole, with everything opened")
	flag.Parse()
	if err := picture(*page, *out, *width, *height, *scale, *dark, *all); err != nil {
		log.Fatalf("browser: %v", err)
	}
}

func picture(page, out string, width, height int64, scale float64, dark, all bool) error {
	ctx, stop := context.WithTimeout(context.Background(), 2*time.Minute)
	defer stop()
	ctx, closeBrowser := start(ctx)
	defer closeBrowser()
	url, err := fileURL(page)
	if err != nil {
		return err
	}
	shot := chromedp.CaptureScreenshot()
	steps := []chromedp.Action[chromedp.Void]{
		chromedp.EmulateViewport(width, height, chromedp.EmulateScale(scale)), scheme(dark), chromedp.Navigate(url),
	}
	if all {
		steps, shot = append(steps, openAll), chromedp.FullScreenshot(100)
	}
	if err := chromedp.Do(ctx, steps...); err != nil {
		return fmt.Errorf("%s: %w", page, err)
	}
	png, err := chromedp.Run(ctx, shot)
	if err != nil {
		return fmt.Errorf("%s: %w", page, err)
	}
	return os.WriteFile(out, png, 0o666)
}

// start starts a Chromium of its own: $DOVETAIL_CHROMIUM, or the one that is installed. It talks to nobody, and what it
// leaves on disk goes when the returned function is called.
func start(ctx context.Context) (context.Context, func()) {
	options := []chromedp.ExecAllocatorOption{
		chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun, chromedp.NoDefaultBrowserCheck,
	}
	for _, f := range []string{"disable-quic", "disable-background-networking", "disable-component-update", "disable-sync", "hide-scrollbars"} {
		options = append(options, chromedp.Flag(f, true))
	}
	if path := os.Getenv("DOVETAIL_CHROMIUM"); path != "" {
		options = append(options, chromedp.ExecPath(path))
	}
	ctx, stopBrowser := chromedp.NewExecAllocator(ctx, options...) // with a fresh folder for its profile
	ctx, closeTab := chromedp.NewContext(ctx)
	return ctx, func() {
		closeTab()
		stopBrowser()
	}
}

func fileURL(path string) (string, error) {
	path, err := filepath.Abs(path)
	return "file://" + path, err
}

func scheme(dark bool) chromedp.Action[chromedp.Void] {
	value := "light"
	if dark {
		value = "dark"
	}
	params := emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: value}}}
	return chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
		_, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, params)
		return err
	})
}

// openAll opens everything that can be opened.
var openAll = chromedp.Evaluate[chromedp.Void](`document.querySelectorAll("details").forEach(d => d.open = true)`)
