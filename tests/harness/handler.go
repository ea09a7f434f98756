package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hibiken/asynq"
)

// An instruction is what a payload may tell the handler to do. A payload that is empty or not a JSON object means ok.
type instruction struct {
	Do        string `json:"do,omitempty"`         // ok (or empty), sleep, result, fail, skip, revoke, panic
	MS        int    `json:"ms,omitempty"`         // how long to take before doing it, in milliseconds
	FailTimes int    `json:"fail_times,omitempty"` // fail while the task has been retried fewer times than this; fail alone means always
	SkipTimes int    `json:"skip_times,omitempty"` // skip the first attempts that this process sees; skip alone means always
	Result    string `json:"result,omitempty"`     // what result writes
}

// payload renders the instruction as a task's payload.
func (i instruction) payload() []byte {
	text, err := json.Marshal(i)
	if err != nil {
		panic(err) // strings and integers always encode
	}
	return text
}

// An attempt is one run of the handler.
type attempt struct {
	ID      string
	Type    string
	Queue   string
	Retried int
	Outcome string // at its end: ok, fail, skip, revoke, cancelled or panic
}

// A handler is an asynq.Handler that does what payloads say and reports every attempt. The end of an attempt is reported when
// the handler returns, which is before Asynq moves the task to its next state.
type handler struct {
	onStart func(attempt)
	onEnd   func(attempt)

	processed atomic.Int64 // attempts that have ended
	skipped   sync.Map     // by task ID, how often SkipTimes was honoured; re-running a task does not change its retry count
}

// ProcessTask implements asynq.Handler.
func (h *handler) ProcessTask(ctx context.Context, task *asynq.Task) error {
	a := attempt{Type: task.Type(), Outcome: "panic"}
	a.ID, _ = asynq.GetTaskID(ctx)
	a.Queue, _ = asynq.GetQueueName(ctx)
	a.Retried, _ = asynq.GetRetryCount(ctx)
	if h.onStart != nil {
		h.onStart(a)
	}
	defer func() {
		h.processed.Add(1)
		if h.onEnd != nil {
			h.onEnd(a)
		}
	}()
	var todo instruction
	if json.Unmarshal(task.Payload(), &todo) != nil {
		todo = instruction{}
	}
	err := h.follow(ctx, task, a, todo)
	a.Outcome = outcome(ctx, err)
	return err
}

// follow carries the instruction out.
func (h *handler) follow(ctx context.Context, task *asynq.Task, a attempt, todo instruction) error {
	if todo.MS > 0 {
		select {
		case <-time.After(time.Duration(todo.MS) * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if a.Retried < todo.FailTimes {
		return fmt.Errorf("told to fail %d times", todo.FailTimes)
	}
	if h.skips(a.ID, todo.SkipTimes) {
		return fmt.Errorf("told to skip %d times: %w", todo.SkipTimes, asynq.SkipRetry)
	}
	switch todo.Do {
	case "", "ok", "sleep":
		return nil
	case "result":
		_, err := task.ResultWriter().Write([]byte(todo.Result))
		return err
	case "fail":
		if todo.FailTimes > 0 {
			return nil
		}
		return errors.New("told to fail")
	case "skip":
		if todo.SkipTimes > 0 {
			return nil
		}
		return fmt.Errorf("told to skip: %w", asynq.SkipRetry)
	case "revoke":
		return fmt.Errorf("told to revoke: %w", asynq.RevokeTask)
	case "panic":
		panic("told to panic")
	}
	return fmt.Errorf("no such instruction: %q: %w", todo.Do, asynq.SkipRetry)
}

// skips reports whether the task is to be skipped once more, and counts it.
func (h *handler) skips(id string, times int) bool {
	if times <= 0 {
		return false
	}
	// A task ID is processed by one goroutine at a time, so load and store need not be one step.
	seen := 0
	if value, ok := h.skipped.Load(id); ok {
		seen = value.(int)
	}
	if seen >= times {
		return false
	}
	h.skipped.Store(id, seen+1)
	return true
}

func outcome(ctx context.Context, err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, asynq.SkipRetry):
		return "skip"
	case errors.Is(err, asynq.RevokeTask):
		return "revoke"
	case ctx.Err() != nil:
		return "cancelled"
	}
	return "fail"
}
