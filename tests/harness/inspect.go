package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/hibiken/asynq"
)

// A request is one line of input of the inspect command. Which fields count depends on the operation.
type request struct {
	Op      string `json:"op"`
	Queue   string `json:"queue"`
	ID      string `json:"id"` // of a task; for scheduler_events, of a scheduler entry
	State   string `json:"state"`
	Group   string `json:"group"`
	Page    int    `json:"page"` // counted from 1
	Size    int    `json:"size"`
	Days    int    `json:"days"`
	Force   bool   `json:"force"`
	Payload string `json:"payload"`
}

// options returns the paging of a list operation; Asynq's defaults are page 1 and 30 tasks.
func (r request) options() []asynq.ListOption {
	var opts []asynq.ListOption
	if r.Page > 0 {
		opts = append(opts, asynq.Page(r.Page))
	}
	if r.Size > 0 {
		opts = append(opts, asynq.PageSize(r.Size))
	}
	return opts
}

// success and failure are the two shapes of answer. Result is null for an operation that has none.
type success struct {
	OK     bool `json:"ok"` // true
	Result any  `json:"result"`
}

type failure struct {
	OK       bool   `json:"ok"` // false
	Error    string `json:"error"`
	NotFound bool   `json:"not_found"` // it is the queue or the task that does not exist
}

type (
	operation     func(*asynq.Inspector, request) (any, error)
	lister        func(i *asynq.Inspector, queue string, opts ...asynq.ListOption) ([]*asynq.TaskInfo, error)
	bulkOperation func(i *asynq.Inspector, queue string) (int, error)
	groupBulk     func(i *asynq.Inspector, queue, group string) (int, error)
)

// The tables below have an entry per state, but for aggregating, whose methods take a group as well.
var (
	listers = map[string]lister{
		"pending":   (*asynq.Inspector).ListPendingTasks,
		"active":    (*asynq.Inspector).ListActiveTasks,
		"scheduled": (*asynq.Inspector).ListScheduledTasks,
		"retry":     (*asynq.Inspector).ListRetryTasks,
		"archived":  (*asynq.Inspector).ListArchivedTasks,
		"completed": (*asynq.Inspector).ListCompletedTasks,
	}
	runners = map[string]bulkOperation{
		"scheduled": (*asynq.Inspector).RunAllScheduledTasks,
		"retry":     (*asynq.Inspector).RunAllRetryTasks,
		"archived":  (*asynq.Inspector).RunAllArchivedTasks,
	}
	archivers = map[string]bulkOperation{
		"pending":   (*asynq.Inspector).ArchiveAllPendingTasks,
		"scheduled": (*asynq.Inspector).ArchiveAllScheduledTasks,
		"retry":     (*asynq.Inspector).ArchiveAllRetryTasks,
	}
	deleters = map[string]bulkOperation{
		"pending":   (*asynq.Inspector).DeleteAllPendingTasks,
		"scheduled": (*asynq.Inspector).DeleteAllScheduledTasks,
		"retry":     (*asynq.Inspector).DeleteAllRetryTasks,
		"archived":  (*asynq.Inspector).DeleteAllArchivedTasks,
		"completed": (*asynq.Inspector).DeleteAllCompletedTasks,
	}
)

// operations has the whole surface of the Inspector.
var operations = map[string]operation{
	"queues":              func(i *asynq.Inspector, _ request) (any, error) { return each(queueName)(i.Queues()) },
	"queue_info":          func(i *asynq.Inspector, r request) (any, error) { return queueView(i.GetQueueInfo(r.Queue)) },
	"groups":              func(i *asynq.Inspector, r request) (any, error) { return each(groupView)(i.Groups(r.Queue)) },
	"history":             func(i *asynq.Inspector, r request) (any, error) { return each(dayView)(i.History(r.Queue, r.Days)) },
	"servers":             func(i *asynq.Inspector, _ request) (any, error) { return each(serverView)(i.Servers()) },
	"scheduler_entries":   func(i *asynq.Inspector, _ request) (any, error) { return each(entryView)(i.SchedulerEntries()) },
	"scheduler_events":    listSchedulerEvents,
	"list":                listTasks,
	"get_task":            getTask,
	"get_result":          getResult,
	"run_task":            onTask((*asynq.Inspector).RunTask),
	"archive_task":        onTask((*asynq.Inspector).ArchiveTask),
	"delete_task":         onTask((*asynq.Inspector).DeleteTask),
	"update_task_payload": updateTaskPayload,
	"cancel_processing":   func(i *asynq.Inspector, r request) (any, error) { return nil, i.CancelProcessing(r.ID) },
	"run_all":             onAll(runners, (*asynq.Inspector).RunAllAggregatingTasks),
	"archive_all":         onAll(archivers, (*asynq.Inspector).ArchiveAllAggregatingTasks),
	"delete_all":          onAll(deleters, (*asynq.Inspector).DeleteAllAggregatingTasks),
	"pause":               func(i *asynq.Inspector, r request) (any, error) { return nil, i.PauseQueue(r.Queue) },
	"unpause":             func(i *asynq.Inspector, r request) (any, error) { return nil, i.UnpauseQueue(r.Queue) },
	"delete_queue":        func(i *asynq.Inspector, r request) (any, error) { return nil, i.DeleteQueue(r.Queue, r.Force) },
	"cluster_key_slot":    func(i *asynq.Inspector, r request) (any, error) { return i.ClusterKeySlot(r.Queue) },
	"cluster_nodes":       func(i *asynq.Inspector, r request) (any, error) { return each(nodeView)(i.ClusterNodes(r.Queue)) },
}

// runInspect carries out the operations named on in, one after the other, and answers each on out.
func runInspect(args []string, in io.Reader, out io.Writer) error {
	flags := newFlags("inspect")
	conn := connectionFlags(flags)
	if err := parseFlags(flags, args); err != nil {
		return err
	}
	inspector := asynq.NewInspector(conn.options())
	defer inspector.Close()
	answers := newLineWriter(out)
	return eachLine(in, func(_ int, line []byte) error {
		result, err := inspect(inspector, line)
		if err != nil {
			return answers.emit(failure{Error: err.Error(), NotFound: notFound(err)})
		}
		return answers.emit(success{OK: true, Result: result})
	})
}

// inspect carries one operation out. Asynq panics on a task whose hash is damaged; here that is an error like any other.
func inspect(inspector *asynq.Inspector, line []byte) (result any, err error) {
	defer func() {
		if reason := recover(); reason != nil {
			err = fmt.Errorf("asynq panicked: %v", reason)
		}
	}()
	var r request
	if err := decodeLine(line, &r); err != nil {
		return nil, err
	}
	op, ok := operations[r.Op]
	if !ok {
		return nil, fmt.Errorf("no operation %q; there are %s", r.Op, names(operations))
	}
	return op(inspector, r)
}

func listTasks(i *asynq.Inspector, r request) (any, error) {
	if r.State == "aggregating" {
		return each(taskView)(i.ListAggregatingTasks(r.Queue, r.Group, r.options()...))
	}
	list, ok := listers[r.State]
	if !ok {
		return nil, fmt.Errorf("no list of state %q; there are aggregating, %s", r.State, names(listers))
	}
	return each(taskView)(list(i, r.Queue, r.options()...))
}

func listSchedulerEvents(i *asynq.Inspector, r request) (any, error) {
	return each(enqueueView)(i.ListSchedulerEnqueueEvents(r.ID, r.options()...))
}

func getTask(i *asynq.Inspector, r request) (any, error) {
	info, err := i.GetTaskInfo(r.Queue, r.ID)
	if err != nil {
		return nil, err
	}
	return taskView(info), nil
}

func getResult(i *asynq.Inspector, r request) (any, error) {
	info, err := i.GetTaskInfo(r.Queue, r.ID)
	if err != nil {
		return nil, err
	}
	return string(info.Result), nil
}

func updateTaskPayload(i *asynq.Inspector, r request) (any, error) {
	return nil, i.UpdateTaskPayload(r.Queue, r.ID, []byte(r.Payload))
}

// onTask makes an operation of a method that takes one task.
func onTask(method func(i *asynq.Inspector, queue, id string) error) operation {
	return func(i *asynq.Inspector, r request) (any, error) { return nil, method(i, r.Queue, r.ID) }
}

// onAll makes an operation of the methods that take all tasks of a state; its result is their number.
func onAll(byState map[string]bulkOperation, aggregating groupBulk) operation {
	return func(i *asynq.Inspector, r request) (any, error) {
		if r.State == "aggregating" {
			return aggregating(i, r.Queue, r.Group)
		}
		method, ok := byState[r.State]
		if !ok {
			return nil, fmt.Errorf("%s does not take state %q; it takes aggregating, %s", r.Op, r.State, names(byState))
		}
		return method(i, r.Queue)
	}
}

// names lists the keys of a table, for a message.
func names[V any](table map[string]V) string {
	return strings.Join(slices.Sorted(maps.Keys(table)), ", ")
}
