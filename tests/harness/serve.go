package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/hibiken/asynq"
)

// serving holds the flags of the serve command.
type serving struct {
	config         asynq.Config
	queues         string
	retryDelay     time.Duration
	groupRetention time.Duration
	health         bool
	quiet          bool
	lifetime       time.Duration
	untilIdle      bool
}

func servingFlags(flags *flag.FlagSet) *serving {
	s := new(serving)
	c := &s.config
	c.LogLevel = asynq.WarnLevel
	flags.IntVar(&c.Concurrency, "concurrency", 10, "tasks processed at a time")
	flags.StringVar(&s.queues, "queues", "default", "`NAMES` of the queues and their priorities, as in default=3,low=1")
	flags.BoolVar(&c.StrictPriority, "strict", false, "process queues strictly by priority")
	flags.DurationVar(&c.GroupGracePeriod, "group-grace", time.Second, "how long a group waits for one more task (at least 1s)")
	flags.DurationVar(&c.GroupMaxDelay, "group-max-delay", 0, "how long a group waits at most; 0 is for ever")
	flags.IntVar(&c.GroupMaxSize, "group-max-size", 0, "tasks that make a group full; 0 is any number")
	flags.DurationVar(&s.groupRetention, "group-retention", 0, "retention of the aggregated tasks")
	flags.DurationVar(&s.retryDelay, "retry-delay", 0, "delay before every retry; 0 is Asynq's own back-off")
	flags.DurationVar(&c.JanitorInterval, "janitor-interval", 8*time.Second, "time between two runs of the janitor")
	flags.IntVar(&c.JanitorBatchSize, "janitor-batch", 100, "tasks that one run of the janitor deletes at most")
	flags.DurationVar(&c.DelayedTaskCheckInterval, "delayed-check-interval", 5*time.Second, "time between two checks for due scheduled and retry tasks")
	flags.DurationVar(&c.TaskCheckInterval, "task-check-interval", time.Second, "pause of an idle worker between two polls")
	flags.DurationVar(&c.ShutdownTimeout, "shutdown-timeout", 8*time.Second, "how long shutting down waits for active tasks")
	flags.BoolVar(&s.health, "health", false, "report a health check per second")
	flags.BoolVar(&s.quiet, "quiet", false, "do not report attempts")
	flags.DurationVar(&s.lifetime, "for", 0, "stop after this `DURATION`; 0 is never")
	flags.BoolVar(&s.untilIdle, "until-idle", false, "stop when no queue has anything left to do")
	logLevelFlag(flags, &c.LogLevel)
	return s
}

// An event is one line of output of the serve command; which fields it has depends on its name.
type event struct {
	Event     string `json:"event"` // ready, start, end, health, draining, stopped
	ID        string `json:"id,omitempty"`
	Type      string `json:"type,omitempty"`
	Queue     string `json:"queue,omitempty"`
	Retry     *int   `json:"retry,omitempty"`
	Outcome   string `json:"outcome,omitempty"`
	Error     string `json:"error,omitempty"`
	Processed *int64 `json:"processed,omitempty"`
	Reason    string `json:"reason,omitempty"` // why it stopped: signal, time or idle
}

// runServe runs a worker until a signal, its lifetime or idleness ends it.
func runServe(args []string, _ io.Reader, out io.Writer) error {
	flags := newFlags("serve")
	conn := connectionFlags(flags)
	s := servingFlags(flags)
	if err := parseFlags(flags, args); err != nil {
		return err
	}
	events := newLineWriter(out)
	worker := new(handler)
	if !s.quiet {
		worker.onStart = func(a attempt) {
			events.emit(event{Event: "start", ID: a.ID, Type: a.Type, Queue: a.Queue, Retry: &a.Retried})
		}
		worker.onEnd = func(a attempt) {
			events.emit(event{Event: "end", ID: a.ID, Type: a.Type, Queue: a.Queue, Retry: &a.Retried, Outcome: a.Outcome})
		}
	}
	if err := s.complete(events); err != nil {
		return err
	}
	server := asynq.NewServer(conn.options(), s.config)
	if err := server.Ping(); err != nil {
		return err
	}
	if err := server.Start(worker); err != nil {
		return err
	}
	events.emit(event{Event: "ready"})
	reason := s.wait(conn, server, events)
	server.Stop()
	server.Shutdown()
	processed := worker.processed.Load()
	return events.emit(event{Event: "stopped", Processed: &processed, Reason: reason})
}

// complete fills in those parts of the configuration that are not a flag as it is.
func (s *serving) complete(events *lineWriter) error {
	var err error
	if s.config.Queues, err = parseQueues(s.queues); err != nil {
		return err
	}
	if s.config.GroupGracePeriod < time.Second {
		return fmt.Errorf("-group-grace must be at least 1s, not %v: Asynq panics on less", s.config.GroupGracePeriod)
	}
	s.config.GroupAggregator = aggregator(s.groupRetention)
	if s.retryDelay > 0 {
		s.config.RetryDelayFunc = func(int, error, *asynq.Task) time.Duration { return s.retryDelay }
	}
	if s.health {
		s.config.HealthCheckInterval = time.Second
		s.config.HealthCheckFunc = func(err error) {
			e := event{Event: "health"}
			if err != nil {
				e.Error = err.Error()
			}
			events.emit(e)
		}
	}
	return nil
}

// aggregator joins the payloads of a group, one per line, into a task of type "aggregated".
func aggregator(retention time.Duration) asynq.GroupAggregator {
	return asynq.GroupAggregatorFunc(func(_ string, tasks []*asynq.Task) *asynq.Task {
		payloads := make([]string, len(tasks))
		for i, task := range tasks {
			payloads[i] = string(task.Payload())
		}
		return asynq.NewTask("aggregated", []byte(strings.Join(payloads, "\n")), asynq.Retention(retention))
	})
}

// wait blocks until there is a reason to stop and returns it.
func (s *serving) wait(conn *connection, server *asynq.Server, events *lineWriter) string {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGTSTP)

	var timeUp <-chan time.Time
	if s.lifetime > 0 {
		timeUp = time.After(s.lifetime)
	}
	idle := make(chan struct{})
	if s.untilIdle {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		go func() {
			inspector := asynq.NewInspector(conn.options())
			defer inspector.Close()
			all := watches(queueNames(s.config.Queues), unfinished...)
			if waitIdle(ctx, func() bool { return anyTask(inspector, all) }) == nil {
				close(idle)
			}
		}()
	}
	for {
		select {
		case <-timeUp:
			return "time"
		case <-idle:
			return "idle"
		case received := <-signals:
			if received != syscall.SIGTSTP {
				return "signal"
			}
			// As in asynq.Server.Run: take no new task, finish the active ones, stay up.
			server.Stop()
			events.emit(event{Event: "draining"})
		}
	}
}

// parseQueues reads "default=3,low=1"; a queue without a priority has priority 1.
func parseQueues(text string) (map[string]int, error) {
	queues := make(map[string]int)
	for _, part := range strings.Split(text, ",") {
		name, digits, given := strings.Cut(strings.TrimSpace(part), "=")
		priority := 1
		if given {
			var err error
			if priority, err = strconv.Atoi(digits); err != nil || priority < 1 {
				return nil, fmt.Errorf("queue %q: priority %q is not a positive number", name, digits)
			}
		}
		if name == "" {
			return nil, fmt.Errorf("-queues %q has an empty name", text)
		}
		queues[name] = priority
	}
	return queues, nil
}

func queueNames(queues map[string]int) []string {
	names := make([]string, 0, len(queues))
	for name := range queues {
		names = append(names, name)
	}
	return names
}
