package main

import (
	"crypto/rand"
	"fmt"
	"strings"
	"time"

	"github.com/hibiken/asynq"
)

// The queues of the demo that it does something special with.
const (
	pausedQueue        = "paused"
	rerunQueue         = "rerun"
	handPendingQueue   = "hand-pending"
	handScheduledQueue = "hand-scheduled"
	handRetryQueue     = "hand-retry"
	handGroupQueue     = "hand-group"
	handGroup          = "inbox"

	groupSize = 10 // tasks that the worker aggregates into one
)

// slowRetryQueues are those whose failed tasks wait an hour for their retry, so that the demo ends with them waiting.
var slowRetryQueues = map[string]bool{"flaky": true, handRetryQueue: true}

// A batch is a number of tasks of one type. No type is in two batches.
type batch struct {
	queue      string
	taskType   string
	count      int
	todo       instruction
	opts       []asynq.Option
	served     bool   // the demo's worker processes the queue
	traced     bool   // the tasks carry a traceparent header
	unique     bool   // each task has a payload of its own and a uniqueness lock
	duplicates int    // repetitions of unique tasks, which Asynq is to refuse
	group      string // prefix of the group names; each group has groupSize tasks
}

var (
	instructionOK   = instruction{Do: "ok"}
	instructionFail = instruction{Do: "fail"}
	instructionSkip = instruction{Do: "skip"}
	tomorrow        = asynq.ProcessIn(24 * time.Hour)
)

// workload is all that the demo enqueues.
var workload = []batch{
	{queue: "default", taskType: "email:send", count: 60, todo: instructionOK, opts: retained(2 * time.Hour), served: true, traced: true},
	{queue: "default", taskType: "report:build", count: 40, todo: instructionOK, served: true},
	{queue: "default", taskType: "invoice:render", count: 10, todo: instruction{Do: "result", Result: "12 pages"}, opts: retained(24 * time.Hour), served: true},
	{queue: "default", taskType: "image:resize", count: 20, todo: instruction{FailTimes: 1}, opts: retained(30 * time.Minute), served: true},
	{queue: "default", taskType: "sms:send", count: 15, todo: instructionFail, opts: options(asynq.MaxRetry(0)), served: true, traced: true},
	{queue: "default", taskType: "coupon:expire", count: 5, todo: instruction{Do: "revoke"}, served: true},
	{queue: "default", taskType: "digest:weekly", count: 12, todo: instructionOK, opts: options(tomorrow), served: true},
	{queue: "default", taskType: "newsletter:send", count: 10, todo: instruction{MS: 5}, opts: retained(time.Hour), served: true, unique: true, duplicates: 10},
	{queue: "payments", taskType: "payment:charge", count: 24, todo: instructionSkip, served: true, traced: true},
	{queue: "payments", taskType: "refund:issue", count: 12, todo: instructionOK, opts: retained(time.Hour), served: true, traced: true},
	{queue: "monitoring", taskType: "ping:check", count: 40, todo: instructionSkip, served: true},
	{queue: "chat", taskType: "notify:push", count: 3 * groupSize, todo: instructionOK, served: true, group: "user"},
	{queue: "flaky", taskType: "webhook:post", count: 12, todo: instructionFail, served: true},
	{queue: pausedQueue, taskType: "backup:run", count: 8, todo: instructionOK, served: true},
	{queue: rerunQueue, taskType: "order:sync", count: 12, todo: instructionSkip, served: true},
	{queue: rerunQueue, taskType: "order:export", count: 6, todo: instructionOK, opts: retained(time.Hour), served: true},
	{queue: "hand-one", taskType: "note:one", count: 5, todo: instructionOK},
	{queue: handPendingQueue, taskType: "note:pending", count: 10, todo: instructionOK},
	{queue: handScheduledQueue, taskType: "note:scheduled", count: 10, todo: instructionOK, opts: options(tomorrow)},
	{queue: handRetryQueue, taskType: "note:retry", count: 10, todo: instructionFail, served: true},
	{queue: handGroupQueue, taskType: "note:group", count: 10, todo: instructionOK, opts: options(asynq.Group(handGroup))},
}

func options(opts ...asynq.Option) []asynq.Option { return opts }

func retained(d time.Duration) []asynq.Option { return options(asynq.Retention(d)) }

// label is the type as it appears in task IDs.
func (b *batch) label() string { return strings.ReplaceAll(b.taskType, ":", "-") }

// task builds the batch's task number n, counted from 1; those beyond its count repeat the first ones.
func (b *batch) task(n int) *asynq.Task {
	todo := b.todo
	opts := append(options(asynq.Queue(b.queue)), b.opts...)
	if b.unique {
		todo.Result = fmt.Sprintf("reader %d", (n-1)%b.count) // sets the payloads apart, and Asynq locks on those
		opts = append(opts, asynq.Unique(time.Hour))
	}
	if b.group != "" {
		opts = append(opts, asynq.Group(fmt.Sprintf("%s-%d", b.group, (n-1)/groupSize+1)))
	}
	var headers map[string]string
	if b.traced {
		headers = map[string]string{"traceparent": traceparent()}
	}
	return asynq.NewTaskWithHeaders(b.taskType, todo.payload(), headers, opts...)
}

// traceparent makes up the W3C Trace Context header of a sampled span.
func traceparent() string {
	var id [24]byte
	rand.Read(id[:]) // never fails
	return fmt.Sprintf("00-%x-%x-01", id[:16], id[16:])
}

// servedQueues returns the queues that the demo's worker processes, all with the same priority.
func servedQueues() map[string]int {
	queues := make(map[string]int)
	for _, b := range workload {
		if b.served {
			queues[b.queue] = 1
		}
	}
	return queues
}

// queueOf returns the queue of the batch of a type, or nothing for the type of aggregated tasks.
func queueOf(taskType string) string {
	for _, b := range workload {
		if b.taskType == taskType {
			return b.queue
		}
	}
	return ""
}

// retryDelay is an asynq.RetryDelayFunc: an hour in the slow queues, at once in the others.
func retryDelay(_ int, _ error, task *asynq.Task) time.Duration {
	if slowRetryQueues[queueOf(task.Type())] {
		return time.Hour
	}
	return 0
}
