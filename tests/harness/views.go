package main

import (
	"time"

	"github.com/hibiken/asynq"
)

// The views say what the Inspector returns in JSON: snake case, times in whole seconds since 1970 or null, and durations
// in seconds.

// each returns a function that turns what a listing method returns into a list of views, empty and not null if there is nothing.
func each[T, V any](view func(T) V) func([]T, error) (any, error) {
	return func(items []T, err error) (any, error) {
		if err != nil {
			return nil, err
		}
		all := make([]V, len(items))
		for i, item := range items {
			all[i] = view(item)
		}
		return all, nil
	}
}

func queueName(name string) string { return name }

type taskInfo struct {
	ID            string            `json:"id"`
	Type          string            `json:"type"`
	Queue         string            `json:"queue"`
	State         string            `json:"state"`
	Payload       string            `json:"payload"`
	Headers       map[string]string `json:"headers"`
	MaxRetry      int               `json:"max_retry"`
	Retried       int               `json:"retried"`
	LastErr       string            `json:"last_err"`
	LastFailedAt  *int64            `json:"last_failed_at"`
	Timeout       float64           `json:"timeout"`
	Deadline      *int64            `json:"deadline"`
	Group         string            `json:"group"`
	NextProcessAt *int64            `json:"next_process_at"`
	Orphaned      bool              `json:"orphaned"`
	Retention     float64           `json:"retention"`
	CompletedAt   *int64            `json:"completed_at"`
	Result        string            `json:"result"`
}

func taskView(t *asynq.TaskInfo) taskInfo {
	return taskInfo{
		ID:            t.ID,
		Type:          t.Type,
		Queue:         t.Queue,
		State:         t.State.String(),
		Payload:       string(t.Payload),
		Headers:       t.Headers,
		MaxRetry:      t.MaxRetry,
		Retried:       t.Retried,
		LastErr:       t.LastErr,
		LastFailedAt:  unixSeconds(t.LastFailedAt),
		Timeout:       t.Timeout.Seconds(),
		Deadline:      unixSeconds(t.Deadline),
		Group:         t.Group,
		NextProcessAt: unixSeconds(t.NextProcessAt),
		Orphaned:      t.IsOrphaned,
		Retention:     t.Retention.Seconds(),
		CompletedAt:   unixSeconds(t.CompletedAt),
		Result:        string(t.Result),
	}
}

type queueInfo struct {
	Queue          string  `json:"queue"`
	MemoryUsage    int64   `json:"memory_usage"`
	Latency        float64 `json:"latency"`
	Size           int     `json:"size"`
	Groups         int     `json:"groups"`
	Pending        int     `json:"pending"`
	Active         int     `json:"active"`
	Scheduled      int     `json:"scheduled"`
	Retry          int     `json:"retry"`
	Archived       int     `json:"archived"`
	Completed      int     `json:"completed"`
	Aggregating    int     `json:"aggregating"`
	Processed      int     `json:"processed"`
	Failed         int     `json:"failed"`
	ProcessedTotal int     `json:"processed_total"`
	FailedTotal    int     `json:"failed_total"`
	Paused         bool    `json:"paused"`
}

func queueView(q *asynq.QueueInfo, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	return queueInfo{
		Queue:          q.Queue,
		MemoryUsage:    q.MemoryUsage,
		Latency:        q.Latency.Seconds(),
		Size:           q.Size,
		Groups:         q.Groups,
		Pending:        q.Pending,
		Active:         q.Active,
		Scheduled:      q.Scheduled,
		Retry:          q.Retry,
		Archived:       q.Archived,
		Completed:      q.Completed,
		Aggregating:    q.Aggregating,
		Processed:      q.Processed,
		Failed:         q.Failed,
		ProcessedTotal: q.ProcessedTotal,
		FailedTotal:    q.FailedTotal,
		Paused:         q.Paused,
	}, nil
}

type groupInfo struct {
	Group string `json:"group"`
	Size  int    `json:"size"`
}

func groupView(g *asynq.GroupInfo) groupInfo { return groupInfo{g.Group, g.Size} }

type dailyStats struct {
	Date      string `json:"date"`
	Processed int    `json:"processed"`
	Failed    int    `json:"failed"`
}

func dayView(d *asynq.DailyStats) dailyStats {
	return dailyStats{d.Date.Format(time.DateOnly), d.Processed, d.Failed}
}

type serverInfo struct {
	ID             string         `json:"id"`
	Host           string         `json:"host"`
	PID            int            `json:"pid"`
	Concurrency    int            `json:"concurrency"`
	Queues         map[string]int `json:"queues"`
	StrictPriority bool           `json:"strict_priority"`
	Started        *int64         `json:"started"`
	Status         string         `json:"status"`
	Workers        []workerInfo   `json:"workers"`
}

type workerInfo struct {
	ID       string `json:"id"`
	Type     string `json:"type"`
	Queue    string `json:"queue"`
	Started  *int64 `json:"started"`
	Deadline *int64 `json:"deadline"`
}

func serverView(s *asynq.ServerInfo) serverInfo {
	workers := make([]workerInfo, len(s.ActiveWorkers))
	for i, w := range s.ActiveWorkers {
		workers[i] = workerInfo{w.TaskID, w.TaskType, w.Queue, unixSeconds(w.Started), unixSeconds(w.Deadline)}
	}
	return serverInfo{
		ID:             s.ID,
		Host:           s.Host,
		PID:            s.PID,
		Concurrency:    s.Concurrency,
		Queues:         s.Queues,
		StrictPriority: s.StrictPriority,
		Started:        unixSeconds(s.Started),
		Status:         s.Status,
		Workers:        workers,
	}
}

type schedulerEntry struct {
	ID      string   `json:"id"`
	Spec    string   `json:"spec"`
	Type    string   `json:"type"`
	Payload string   `json:"payload"`
	Options []string `json:"options"`
	Next    *int64   `json:"next"`
	Prev    *int64   `json:"prev"`
}

func entryView(e *asynq.SchedulerEntry) schedulerEntry {
	options := make([]string, len(e.Opts))
	for i, opt := range e.Opts {
		options[i] = opt.String()
	}
	return schedulerEntry{e.ID, e.Spec, e.Task.Type(), string(e.Task.Payload()), options, unixSeconds(e.Next), unixSeconds(e.Prev)}
}

type enqueueEvent struct {
	TaskID     string `json:"task_id"`
	EnqueuedAt *int64 `json:"enqueued_at"`
}

func enqueueView(e *asynq.SchedulerEnqueueEvent) enqueueEvent {
	return enqueueEvent{e.TaskID, unixSeconds(e.EnqueuedAt)}
}

type clusterNode struct {
	ID   string `json:"id"`
	Addr string `json:"addr"`
}

func nodeView(n *asynq.ClusterNode) clusterNode { return clusterNode{n.ID, n.Addr} }
