package main

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hibiken/asynq"
)

// rerunners is the number of goroutines that run archived tasks again, and rerunPause their pause before they ask again for
// a task that is not archived yet.
const (
	rerunners  = 4
	rerunPause = 2 * time.Millisecond
)

// A loadConsumer processes the tasks of a load, and runs some of those it has archived again.
type loadConsumer struct {
	*loading
	ledger    *ledger
	worker    handler
	server    *asynq.Server // nil if there is no worker
	inspector *asynq.Inspector
	started   time.Time
	lastEnd   atomic.Int64 // when the last attempt ended, in nanoseconds since started

	ok, skip, other atomic.Int64 // attempts by outcome

	archived    chan string  // IDs to run again
	outstanding atomic.Int64 // how many of those are not dealt with
	rerun       atomic.Int64
	notFound    atomic.Int64

	mu       sync.Mutex           // guards what follows
	firstEnd map[string]time.Time // with a rate: when the first attempt of each task ended, by ID
}

func newLoadConsumer(l *loading, ledger *ledger) *loadConsumer {
	c := &loadConsumer{loading: l, ledger: ledger, archived: make(chan string, l.tasks), firstEnd: map[string]time.Time{}}
	c.worker.onStart = func(a attempt) { ledger.write(time.Now(), entry{Event: "start", ID: a.ID}) }
	c.worker.onEnd = c.ended
	return c
}

// start starts the worker, if there is to be one.
func (c *loadConsumer) start(ctx context.Context) error {
	c.started = time.Now()
	if c.concurrency == 0 {
		return nil
	}
	c.inspector = asynq.NewInspector(c.conn.options())
	for range rerunners {
		go c.rerunArchived(ctx)
	}
	config := asynq.Config{
		Concurrency:              c.concurrency,
		Queues:                   map[string]int{c.queue: 1},
		TaskCheckInterval:        50 * time.Millisecond,
		DelayedTaskCheckInterval: 200 * time.Millisecond,
		LogLevel:                 c.logLevel,
	}
	if c.retryDelay > 0 {
		config.RetryDelayFunc = func(int, error, *asynq.Task) time.Duration { return c.retryDelay }
	}
	c.server = asynq.NewServer(c.conn.options(), config)
	return c.server.Start(&c.worker)
}

// ended keeps account of an attempt. One that was skipped under the order to skip once only is to be run again, as soon as
// Asynq has archived it.
func (c *loadConsumer) ended(a attempt) {
	now := time.Now()
	c.lastEnd.Store(int64(now.Sub(c.started)))
	c.noteFirstEnd(a.ID, now)
	c.ledger.write(now, entry{Event: "end", ID: a.ID, Outcome: a.Outcome})
	switch a.Outcome {
	case "ok":
		c.ok.Add(1)
	case "skip":
		c.skip.Add(1)
		if _, once := c.worker.skipped.Load(a.ID); once {
			c.outstanding.Add(1)
			c.archived <- a.ID
		}
	default:
		c.other.Add(1)
	}
}

// noteFirstEnd remembers when the first attempt of a task ended.
func (c *loadConsumer) noteFirstEnd(id string, now time.Time) {
	if c.rate == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, again := c.firstEnd[id]; !again {
		c.firstEnd[id] = now
	}
}

// taskLatencies returns for each task how long after it was due its first attempt ended.
func (c *loadConsumer) taskLatencies(due func(n int) time.Time) []time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	latencies := make([]time.Duration, 0, len(c.firstEnd))
	for id, ended := range c.firstEnd {
		if n, err := strconv.Atoi(strings.TrimPrefix(id, c.idPrefix)); err == nil {
			latencies = append(latencies, ended.Sub(due(n)))
		}
	}
	return latencies
}

// rerunArchived runs archived tasks again until ctx ends.
func (c *loadConsumer) rerunArchived(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case id := <-c.archived:
			c.runAgain(ctx, id)
			c.outstanding.Add(-1)
		}
	}
}

// runAgain runs one task again. Until the worker has archived it, Asynq refuses because it is active.
func (c *loadConsumer) runAgain(ctx context.Context, id string) {
	for ctx.Err() == nil {
		switch err := c.inspector.RunTask(c.queue, id); {
		case err == nil:
			c.rerun.Add(1)
			return
		case notFound(err):
			c.notFound.Add(1)
			return
		}
		time.Sleep(rerunPause)
	}
}

// finish waits until all is processed and shuts the worker down.
func (c *loadConsumer) finish(ctx context.Context) error {
	if c.server == nil {
		return nil
	}
	all := watches([]string{c.queue}, unfinished...)
	err := waitIdle(ctx, func() bool { return c.outstanding.Load() > 0 || anyTask(c.inspector, all) })
	c.server.Shutdown()
	return err
}

func (c *loadConsumer) close() {
	if c.inspector != nil {
		c.inspector.Close()
	}
}

// report adds the processing to the report of the producers.
func (c *loadConsumer) report(r *loadReport) {
	if c.server == nil {
		return
	}
	r.Processed = c.worker.processed.Load()
	r.Outcomes = outcomeCount{OK: c.ok.Load(), Skip: c.skip.Load(), Other: c.other.Load()}
	r.Rerun = c.rerun.Load()
	r.RerunNotFound = c.notFound.Load()
	r.Seconds = time.Duration(c.lastEnd.Load()).Seconds()
	r.TasksPerSecond = 0
	if r.Seconds > 0 {
		r.TasksPerSecond = float64(r.Processed) / r.Seconds
	}
}
