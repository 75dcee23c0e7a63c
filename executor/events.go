package executor

import (
	"context"
	"log/slog"
)

// levelDeviceLost is that of devices that are lost: they need a person.
const levelDeviceLost = slog.LevelError

// deviceAttrs names the device of an actor.
func deviceAttrs(env *Env) []slog.Attr {
	return []slog.Attr{
		slog.Int("actor", env.Actor), slog.Int("rank", env.Rank), slog.Int("device", env.Device.Index), slog.String("uuid", env.Device.UUID),
	}
}

// event tells the event log what happened in a stage.
func (r *stageRun) event(level slog.Level, what string, err error, attrs ...slog.Attr) {
	l := r.e.cfg.Events
	if l == nil || !l.Enabled(context.Background(), level) {
		return
	}
	attrs = append([]slog.Attr{slog.String("stage", r.name), slog.Uint64("epoch", uint64(r.e.epoch))}, attrs...)
	if err != nil {
		attrs = append(attrs, slog.String("error", err.Error()))
	}
	l.LogAttrs(context.Background(), level, what, attrs...)
}

// attemptEvent tells it of an attempt of a task, in an actor with that environment.
func (r *stageRun) attemptEvent(level slog.Level, what string, err error, env *Env, task string, attempt uint32, attrs ...slog.Attr) {
	if l := r.e.cfg.Events; l == nil || !l.Enabled(context.Background(), level) {
		return // it is called for every attempt
	}
	attrs = append(attrs, slog.String("task", task), slog.Uint64("attempt", uint64(attempt)))
	if env != nil {
		attrs = append(attrs, slog.Int("rank", env.Rank), slog.Int("actor", env.Actor))
	}
	r.event(level, what, err, attrs...)
}
