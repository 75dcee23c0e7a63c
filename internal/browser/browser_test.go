package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// makeReport runs dovetail over a corpus with ordinary and hostile documents and returns the page.
func makeReport(t *testing.T) string {
	t.Helper()
	bin := os.Getenv("DOVETAIL_BIN")
	if bin == "" {
		t.Skip("SKIPPED: $DOVETAIL_BIN does not name a dovetail to make a report with; `make test-browser` sets it")
	}
	if _, err := os.Stat(os.Getenv("DOVETAIL_CHROMIUM")); os.Getenv("DOVETAIL_CHROMIUM") != "" && err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	rng := rand.New(rand.NewPCG(1, 1))
	sentence := func(n int) string {
		var b strings.Builder
		for range n {
			fmt.Fprintf(&b, "%s%d ", []string{"deck", "card", "половина", "数据", "shuffle", "كلمة"}[rng.IntN(6)], rng.IntN(900))
		}
		return b.String()
	}
	hostile := []string{
		"<script>document.title = 'hacked'; fetch('https://example.invalid/')</script>", "<img src=https://example.invalid/x.png onerror=alert(1)>",
		"</pre></section><style>body{display:none}</style>", "\u202eright to left", "\x00\x01\x1b[31m\xff\xfe",
		strings.Repeat("unbreakable", 400), `<meta http-equiv="refresh" content="0;url=https://example.invalid/">`,
	}
	for i := range 400 {
		text := sentence(30 + rng.IntN(400))
		if i%40 < len(hostile) {
			text = hostile[i%40] + text
		}
		folder := fmt.Sprintf("folder %d", i%30)
		if i%50 == 0 {
			folder = "<b>" + strings.Repeat("a-very-long-name", 14)
		}
		for k := range 1 + rng.IntN(3) {
			copied := text
			if k > 0 {
				copied += sentence(rng.IntN(4)) // of none, the copy is exact
			}
			name := filepath.Join(dir, "in", folder, fmt.Sprintf("%d-%d.txt", i, k))
			if err := os.MkdirAll(filepath.Dir(name), 0o777); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(name, []byte(copied), 0o666); err != nil {
				t.Fatal(err)
			}
		}
	}
	out := filepath.Join(dir, "out")
	cmd := exec.Command(bin, "dedup", "--format", "files", "--input", filepath.Join(dir, "in"), "--output", out, "--progress", "none")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return filepath.Join(out, "report.html")
}

// watcher notes what a page should not do.
type watcher struct {
	mu    sync.Mutex
	page  string
	wrong []string
}

func (w *watcher) add(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wrong = append(w.wrong, fmt.Sprintf(format, args...))
}

// watch starts the browser and watches what the page does.
func watch(t *testing.T, ctx context.Context, file string) *watcher {
	t.Helper()
	address, err := fileURL(file)
	if err != nil {
		t.Fatal(err)
	}
	w := &watcher{page: address}
	if err := chromedp.Listen(ctx, w.event); err != nil {
		t.Fatalf("no Chromium can be started (set $DOVETAIL_CHROMIUM): %v", err)
	}
	if _, err := chromedp.Call(ctx, log.Enable, cdp.Empty{}); err != nil {
		t.Fatal(err)
	}
	if _, err := chromedp.Call(ctx, network.Enable, network.EnableParams{}); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *watcher) seen() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.wrong)
}

func (w *watcher) event(ev any) {
	switch e := ev.(type) {
	case *network.EventRequestWillBeSent:
		if got, err := url.QueryUnescape(e.Request.URL); err != nil || got != w.page {
			w.add("it asks for %s", e.Request.URL)
		}
	case *log.EventEntryAdded:
		w.add("log: %s: %s %s", e.Entry.Level, e.Entry.Text, e.Entry.URL)
	case *runtime.EventConsoleAPICalled:
		w.add("console: %s", e.Type)
	case *runtime.EventExceptionThrown:
		w.add("exception: %s", e.ExceptionDetails.Text)
	case *page.EventJavascriptDialogOpening:
		w.add("dialog: %s", e.Message)
	case *page.EventFrameNavigated:
		if e.Frame.URL != "about:blank" && e.Frame.URL != w.page {
			w.add("it went to %s", e.Frame.URL)
		}
	}
}

// faults looks over the page as it is laid out and lists what a reader would stumble over.
const faults = `(() => {
  const out = [], root = document.documentElement;
  const see = e => { const r = e.getBoundingClientRect(); return r.width > 0 && r.height > 0; };
  if (root.scrollWidth > root.clientWidth) {
    out.push("the page scrolls sideways: " + root.scrollWidth + " of " + root.clientWidth);
    for (const e of document.querySelectorAll("main *")) {
      if (see(e) && e.getBoundingClientRect().right > root.clientWidth + 1 && !e.closest(".scroll")) { out.push("  because of " + e.tagName + "." + e.className); break; }
    }
  }
  for (const id of ["summary", "similarity-section", "clusters-section", "sources-section", "samples-section", "cost-section", "options-section"]) {
    const e = document.getElementById(id);
    if (!e || !see(e) || !e.querySelector("h1, h2")) out.push("no section " + id);
  }
  if (document.querySelectorAll("h1").length != 1) out.push("not one h1");
  const charts = [...document.querySelectorAll(".chart svg")].filter(see);
  if (charts.length != 2) out.push(charts.length + " charts are shown, not 2");
  for (const c of charts) {
    const box = c.getBoundingClientRect(), texts = [...c.querySelectorAll("text")];
    for (const t of texts) {
      const r = t.getBoundingClientRect();
      if (r.height < 8) out.push("text of " + r.height.toFixed(1) + " px in a chart: " + t.textContent);
      if (r.left < box.left - 1 || r.right > box.right + 1 || r.top < box.top - 1 || r.bottom > box.bottom + 1) out.push("cut off in a chart: " + t.textContent);
      for (const o of texts) {
        const q = o.getBoundingClientRect();
        if (o !== t && r.left < q.right - 1 && q.left < r.right - 1 && r.top < q.bottom - 4 && q.top < r.bottom - 4) out.push("on top of each other in a chart: " + t.textContent + ", " + o.textContent);
      }
    }
  }
  const rgb = s => { const m = s.match(/[\d.]+/g).map(Number); return m.length > 3 && m[3] == 0 ? null : m; };
  const lum = c => { const f = c.slice(0, 3).map(v => { v /= 255; return v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; }); return .2126 * f[0] + .7152 * f[1] + .0722 * f[2]; };
  const poor = new Set();
  for (const e of document.querySelectorAll("body *")) {
    if (!see(e) || ![...e.childNodes].some(n => n.nodeType == 3 && n.textContent.trim())) continue;
    const svg = e.closest("svg"), st = getComputedStyle(e);
    if (svg && e.tagName != "text") continue;
    let bg = null;
    for (let p = svg || e; p && !bg; p = p.parentElement) bg = rgb(getComputedStyle(p).backgroundColor);
    const a = lum(rgb(svg ? st.fill : st.color)), b = lum(bg || [255, 255, 255]);
    const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    if (ratio < 4.5) poor.add("contrast " + ratio.toFixed(2) + ": " + e.tagName + "." + (e.getAttribute("class") || ""));
  }
  return out.concat([...poor]);
})()`

func eval[T any](t *testing.T, ctx context.Context, a chromedp.Action[T]) T {
	t.Helper()
	v, err := chromedp.Run(ctx, a)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// A page with faults shows that the test would find them.
func TestFaultsAreFound(t *testing.T) {
	bin := os.Getenv("DOVETAIL_BIN")
	if bin == "" {
		t.Skip("SKIPPED: `make test-browser` runs this")
	}
	file := filepath.Join(t.TempDir(), "bad.html")
	const bad = `<!DOCTYPE html><meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<body style="background:#fff"><main><h2>two</h2><p style="width:3000px;color:#aaa">wide and pale</p><img src="https://example.invalid/x.png"></main>
<script>console.log(1)</script>`
	if err := os.WriteFile(file, []byte(bad), 0o666); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(t.Context(), 3*time.Minute)
	defer stop()
	ctx, closeBrowser := start(ctx)
	defer closeBrowser()
	w := watch(t, ctx, file)
	if err := chromedp.Do(ctx, chromedp.EmulateViewport(390, 844, chromedp.EmulateMobile), chromedp.Navigate(w.page)); err != nil {
		t.Fatal(err)
	}
	found := strings.Join(append(eval(t, ctx, chromedp.Evaluate[[]string](faults)), w.seen()...), "\n")
	for _, want := range []string{"sideways", "no section summary", "contrast 2", "charts are shown", "Content Security Policy", "not one h1"} {
		if !strings.Contains(found, want) {
			t.Errorf("%q is not among\n%s", want, found)
		}
	}
}

func TestReportInABrowser(t *testing.T) {
	file := makeReport(t)
	ctx, stop := context.WithTimeout(t.Context(), 3*time.Minute)
	defer stop()
	ctx, closeBrowser := start(ctx)
	defer closeBrowser()
	w := watch(t, ctx, file)
	for _, v := range []struct {
		name          string
		width, height int64
		options       []chromedp.EmulateViewportOption
	}{
		{"phone", 390, 844, []chromedp.EmulateViewportOption{chromedp.EmulateMobile, chromedp.EmulateScale(2)}},
		{"tablet", 700, 900, nil},
		{"desk", 1280, 800, nil},
	} {
		for _, dark := range []bool{false, true} {
			name := fmt.Sprintf("%s, dark %v", v.name, dark)
			if err := chromedp.Do(ctx, chromedp.EmulateViewport(v.width, v.height, v.options...), scheme(dark), chromedp.Navigate(w.page)); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			closed := eval(t, ctx, chromedp.Evaluate[[]string](faults))
			eval(t, ctx, openAll)
			opened := eval(t, ctx, chromedp.Evaluate[[]string](faults))
			title := eval(t, ctx, chromedp.Title())
			background := eval(t, ctx, chromedp.Evaluate[string](`getComputedStyle(document.body).backgroundColor`))
			details := eval(t, ctx, chromedp.Evaluate[int](`document.querySelectorAll("details").length`))
			for _, f := range append(closed, opened...) {
				t.Errorf("%s: %s", name, f)
			}
			if !strings.HasPrefix(title, "Dovetail: ") {
				t.Errorf("%s: the title is %q", name, title)
			}
			if details < 50 {
				t.Errorf("%s: %d removals and clusters: the test shows little", name, details)
			}
			if (background == "rgb(20, 22, 26)") != dark {
				t.Errorf("%s: the background is %s", name, background)
			}
			if dir := os.Getenv("DOVETAIL_SHOTS"); dir != "" {
				png := eval(t, ctx, chromedp.FullScreenshot(100))
				if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%s-%v.png", v.name, dark)), png, 0o666); err != nil {
					t.Error(err)
				}
			}
		}
	}
	if pdf := eval(t, ctx, chromedp.PrintToPDF(chromedp.PDFPrintBackground())); len(pdf) < 50_000 {
		t.Errorf("it prints as %d bytes", len(pdf))
	}
	for _, s := range w.seen() {
		t.Errorf("the page should do nothing by itself, and %s", s)
	}
}
