package main

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/hibiken/asynq"
)

// idleInterval is the time between two checks for work; two idle ones in a row count, as a task can move between the states
// while one check reads them one after the other.
const idleInterval = 200 * time.Millisecond

// unfinished lists the states of a task that still has to be worked on, in the order in which a task passes through them.
var unfinished = []string{"scheduled", "aggregating", "pending", "active", "retry"}

// A watch names the states of a queue to keep an eye on.
type watch struct {
	queue  string
	states []string
}

// watches returns a watch for each queue, all for the same states.
func watches(queues []string, states ...string) []watch {
	all := make([]watch, len(queues))
	for i, queue := range queues {
		all[i] = watch{queue, states}
	}
	return all
}

// waitIdle blocks until busy has answered no to two checks in a row, or ctx ends, whose error it returns then.
func waitIdle(ctx context.Context, busy func() bool) error {
	ticker := time.NewTicker(idleInterval)
	defer ticker.Stop()
	for idle := 0; idle < 2; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
		idle++
		if busy() {
			idle = 0
		}
	}
	return nil
}

// anyTask reports whether a watched state has a task. It lists tasks and does not ask for queue information, because that
// fails for a queue with a ghost, an index entry whose task is gone. A failure counts as a task: work may be left.
func anyTask(inspector *asynq.Inspector, all []watch) bool {
	for _, w := range all {
		for _, state := range w.states {
			found, err := hasTask(inspector, w.queue, state)
			if found || err != nil && !notFound(err) {
				return true
			}
		}
	}
	return false
}

func hasTask(inspector *asynq.Inspector, queue, state string) (bool, error) {
	if state != "aggregating" {
		tasks, err := listers[state](inspector, queue, asynq.PageSize(1))
		return len(tasks) > 0, err
	}
	groups, err := inspector.Groups(queue)
	for _, group := range groups {
		if group.Size > 0 {
			return true, err
		}
	}
	return false, err
}

// notFound reports whether err says that a queue or a task does not exist. The Inspector's operations on a whole queue return
// an error of a type that Asynq does not export, which can be told by its text only.
func notFound(err error) bool {
	return errors.Is(err, asynq.ErrQueueNotFound) || errors.Is(err, asynq.ErrTaskNotFound) ||
		err != nil && strings.HasSuffix(err.Error(), " does not exist")
}
