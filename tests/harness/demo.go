package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/hibiken/asynq"
)

// A demonstration runs the demo's workload step by step and keeps the account of it.
type demonstration struct {
	ctx       context.Context
	conn      *connection
	client    *asynq.Client
	inspector *asynq.Inspector
	prefix    string
	logLevel  asynq.LogLevel
	ids       map[string][]string // accepted task IDs, by type
	summary   summary
}

// A summary is the one line that the demo command prints.
type summary struct {
	Queues  map[string]queueCounts `json:"queues"`
	Did     []step                 `json:"did"`
	Seconds float64                `json:"seconds"`
}

// queueCounts says how many tasks of a queue are in each state.
type queueCounts struct {
	Pending     int    `json:"pending"`
	Active      int    `json:"active"`
	Scheduled   int    `json:"scheduled"`
	Retry       int    `json:"retry"`
	Aggregating int    `json:"aggregating"`
	Completed   int    `json:"completed"`
	Archived    int    `json:"archived"`
	Paused      bool   `json:"paused"`
	Error       string `json:"error,omitempty"` // Asynq could not tell
}

// A step is something the demo did to tasks and how many it concerned. A policy that removes tasks at once leaves some for
// later steps not to find, which is no failure.
type step struct {
	Did      string `json:"did"`
	Queue    string `json:"queue"`
	Type     string `json:"type,omitempty"`
	Tasks    int    `json:"tasks"`
	NotFound int    `json:"not_found,omitempty"`
}

// runDemo leaves tasks in every state, and prints which.
func runDemo(args []string, _ io.Reader, out io.Writer) error {
	flags := newFlags("demo")
	conn := connectionFlags(flags)
	prefix := flags.String("id-prefix", "", "prefix of the task IDs; empty is one that differs by the second")
	timeout := flags.Duration("timeout", 20*time.Second, "how long it may take")
	level := asynq.ErrorLevel
	logLevelFlag(flags, &level)
	if err := parseFlags(flags, args); err != nil {
		return err
	}
	started := time.Now()
	if *prefix == "" {
		*prefix = "demo-" + started.UTC().Format("150405")
	}
	ctx, cancel := context.WithTimeout(context.Background(), *timeout)
	defer cancel()
	client := asynq.NewClient(conn.options())
	defer client.Close()
	inspector := asynq.NewInspector(conn.options())
	defer inspector.Close()

	d := &demonstration{
		ctx:       ctx,
		conn:      conn,
		client:    client,
		inspector: inspector,
		prefix:    *prefix,
		logLevel:  level,
		ids:       make(map[string][]string),
	}
	for _, part := range []func() error{d.enqueue, d.work, d.rerun, d.archive, d.count} {
		if err := part(); err != nil {
			return err
		}
	}
	d.summary.Seconds = time.Since(started).Seconds()
	return newLineWriter(out).emit(d.summary)
}

// did keeps account of a step on the tasks of a type.
func (d *demonstration) did(what, queue, taskType string, tasks, missing int) {
	d.summary.Did = append(d.summary.Did, step{what, queue, taskType, tasks, missing})
}

// enqueue enqueues the workload and pauses the queue that is to stay pending.
func (d *demonstration) enqueue() error {
	for _, b := range workload {
		duplicates := 0
		for n := 1; n <= b.count+b.duplicates; n++ {
			id := fmt.Sprintf("%s-%s-%03d", d.prefix, b.label(), n)
			_, err := d.client.EnqueueContext(d.ctx, b.task(n), asynq.TaskID(id))
			switch {
			case errors.Is(err, asynq.ErrDuplicateTask):
				duplicates++
			case err != nil:
				return fmt.Errorf("enqueueing %s: %w", id, err)
			default:
				d.ids[b.taskType] = append(d.ids[b.taskType], id)
			}
		}
		d.did("enqueued", b.queue, b.taskType, b.count+b.duplicates-duplicates, 0)
		if duplicates > 0 {
			d.did("refused as duplicate", b.queue, b.taskType, duplicates, 0)
		}
	}
	return d.inspector.PauseQueue(pausedQueue)
}

// work runs a worker until it has nothing left to do but wait. Meanwhile some tasks it archived are re-run, and archived again.
func (d *demonstration) work() error {
	worker := new(handler)
	queues := servedQueues()
	server := asynq.NewServer(d.conn.options(), asynq.Config{
		Concurrency:              10,
		Queues:                   queues,
		GroupGracePeriod:         time.Second,
		GroupMaxSize:             groupSize,
		GroupAggregator:          aggregator(time.Hour),
		RetryDelayFunc:           retryDelay,
		TaskCheckInterval:        50 * time.Millisecond,
		DelayedTaskCheckInterval: 200 * time.Millisecond,
		LogLevel:                 d.logLevel,
	})
	if err := server.Start(worker); err != nil {
		return err
	}
	defer server.Shutdown()
	busy := finishing(queues)
	settle := func() error {
		return waitIdle(d.ctx, func() bool { return anyTask(d.inspector, busy) })
	}
	if err := settle(); err != nil {
		return fmt.Errorf("waiting for the worker to finish: %w", err)
	}
	if err := d.runTasks("payment:charge", 4); err != nil {
		return err
	}
	if err := settle(); err != nil {
		return fmt.Errorf("waiting for the worker to finish what was re-run: %w", err)
	}
	d.did("attempted", "", "", int(worker.processed.Load()), 0)
	return nil
}

// finishing returns watches for all that a worker on these queues can finish in the time of a demo.
func finishing(queues map[string]int) []watch {
	var all []watch
	for queue := range queues {
		states := []string{"aggregating", "pending", "active"}
		if !slowRetryQueues[queue] {
			states = append(states, "retry")
		}
		if queue != pausedQueue {
			all = append(all, watch{queue, states})
		}
	}
	return all
}

// rerun brings terminal tasks back to life with no worker running, so that they stay pending.
func (d *demonstration) rerun() error {
	if err := d.runTasks("order:sync", 2); err != nil {
		return err
	}
	if err := d.runTasks("order:export", 2); err != nil {
		return err
	}
	return d.bulk("RunAllArchivedTasks", rerunQueue, runners["archived"])
}

// archive archives tasks by hand, once with each method that can, on a queue made for it.
func (d *demonstration) archive() error {
	if err := d.eachTask("ArchiveTask", "note:one", len(d.ids["note:one"]), d.inspector.ArchiveTask); err != nil {
		return err
	}
	if err := d.bulk("ArchiveAllPendingTasks", handPendingQueue, archivers["pending"]); err != nil {
		return err
	}
	if err := d.bulk("ArchiveAllScheduledTasks", handScheduledQueue, archivers["scheduled"]); err != nil {
		return err
	}
	if err := d.bulk("ArchiveAllRetryTasks", handRetryQueue, archivers["retry"]); err != nil {
		return err
	}
	return d.bulk("ArchiveAllAggregatingTasks", handGroupQueue, func(i *asynq.Inspector, queue string) (int, error) {
		return i.ArchiveAllAggregatingTasks(queue, handGroup)
	})
}

func (d *demonstration) runTasks(taskType string, count int) error {
	return d.eachTask("RunTask", taskType, count, d.inspector.RunTask)
}

// eachTask applies a method of the Inspector to the first count tasks of a type.
func (d *demonstration) eachTask(name, taskType string, count int, method func(queue, id string) error) error {
	queue := queueOf(taskType)
	done, missing := 0, 0
	for _, id := range d.ids[taskType][:count] {
		switch err := method(queue, id); {
		case err == nil:
			done++
		case notFound(err):
			missing++
		default:
			return fmt.Errorf("%s of %s in queue %s: %w", name, id, queue, err)
		}
	}
	d.did(name, queue, taskType, done, missing)
	return nil
}

// bulk applies a method of the Inspector to a whole queue.
func (d *demonstration) bulk(name, queue string, method bulkOperation) error {
	tasks, err := method(d.inspector, queue)
	if err != nil {
		return fmt.Errorf("%s of queue %s: %w", name, queue, err)
	}
	d.did(name, queue, "", tasks, 0)
	return nil
}

// count looks at what is left in every queue of the workload.
func (d *demonstration) count() error {
	d.summary.Queues = make(map[string]queueCounts)
	for _, b := range workload {
		q, err := d.inspector.GetQueueInfo(b.queue)
		if err != nil {
			d.summary.Queues[b.queue] = queueCounts{Error: err.Error()}
			continue
		}
		d.summary.Queues[b.queue] = queueCounts{
			Pending:     q.Pending,
			Active:      q.Active,
			Scheduled:   q.Scheduled,
			Retry:       q.Retry,
			Aggregating: q.Aggregating,
			Completed:   q.Completed,
			Archived:    q.Archived,
			Paused:      q.Paused,
		}
	}
	return nil
}
