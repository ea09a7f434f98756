package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hibiken/asynq"
)

// loading holds the flags of the load command.
type loading struct {
	conn         *connection
	tasks        int
	producers    int
	concurrency  int
	rate         float64
	fillFirst    bool
	archiveShare float64
	retainShare  float64
	rerunShare   float64
	retention    time.Duration
	payloadBytes int
	queue        string
	taskType     string
	idPrefix     string
	ids          string
	taskTime     time.Duration
	retryDelay   time.Duration
	wait         int
	ledger       string
	giveUp       time.Duration
	timeout      time.Duration
	logLevel     asynq.LogLevel
}

func loadingFlags(flags *flag.FlagSet) *loading {
	l := &loading{logLevel: asynq.ErrorLevel}
	l.conn = connectionFlags(flags)
	flags.IntVar(&l.tasks, "tasks", 10000, "tasks to enqueue")
	flags.IntVar(&l.producers, "producers", 8, "goroutines that enqueue")
	flags.IntVar(&l.concurrency, "concurrency", 10, "tasks processed at a time; 0 runs no worker")
	flags.Float64Var(&l.rate, "rate", 0, "tasks to enqueue per second; 0 is as fast as possible")
	flags.BoolVar(&l.fillFirst, "fill-first", false, "start the worker when all is enqueued, and time it from there")
	flags.Float64Var(&l.archiveShare, "archive-share", 0, "share of the tasks that end archived")
	flags.Float64Var(&l.retainShare, "retain-share", 0, "share of the tasks that end completed and retained; the rest is deleted when done")
	flags.Float64Var(&l.rerunShare, "rerun-share", 0, "share of the archived tasks that are run again, and then succeed")
	flags.DurationVar(&l.retention, "retention", time.Hour, "retention of the retained tasks")
	flags.IntVar(&l.payloadBytes, "payload-bytes", 100, "approximate size of a payload")
	flags.StringVar(&l.queue, "queue", "load", "queue")
	flags.StringVar(&l.taskType, "type", "load:task", "type of the tasks")
	flags.StringVar(&l.idPrefix, "id-prefix", "load-", "prefix of the task IDs, before the number")
	flags.StringVar(&l.ids, "ids", "", "`FILE` to write the accepted IDs to, one per line")
	flags.DurationVar(&l.taskTime, "task-time", 0, "how long a task takes")
	flags.DurationVar(&l.retryDelay, "retry-delay", 0, "delay before every retry; 0 is Asynq's own back-off")
	flags.IntVar(&l.wait, "wait", 0, "replicas that are to have a task before it counts as acknowledged; only the ledger tells")
	flags.StringVar(&l.ledger, "ledger", "", "`FILE` to write everything to that happens to a task, as JSON lines")
	flags.DurationVar(&l.giveUp, "give-up", 30*time.Second, "how long to try to enqueue one task")
	flags.DurationVar(&l.timeout, "timeout", 5*time.Minute, "how long it may take in all")
	logLevelFlag(flags, &l.logLevel)
	return l
}

// check refuses shares that are none.
func (l *loading) check() error {
	for _, share := range []float64{l.archiveShare, l.retainShare, l.rerunShare, l.archiveShare + l.retainShare} {
		if share < 0 || share > 1 {
			return errors.New("shares, and the sum of -archive-share and -retain-share, lie between 0 and 1")
		}
	}
	return nil
}

// loadReport is the one line that the load command prints.
type loadReport struct {
	Enqueued         int          `json:"enqueued"`  // accepted
	Replayed         int          `json:"replayed"`  // of those, already there: accepted by an attempt whose reply was lost
	Uncertain        []string     `json:"uncertain"` // given up: the ID may or may not have been accepted
	EnqueueSeconds   float64      `json:"enqueue_seconds"`
	EnqueuePerSecond float64      `json:"enqueue_per_second"`
	EnqueueMS        percentiles  `json:"enqueue_ms"`
	TaskMS           percentiles  `json:"task_ms"`   // with a rate: from when a task was due to the end of its first attempt
	Processed        int64        `json:"processed"` // attempts
	Outcomes         outcomeCount `json:"outcomes"`
	Rerun            int64        `json:"rerun"`
	RerunNotFound    int64        `json:"rerun_not_found"` // a policy, or a cap, had removed the archived task
	Seconds          float64      `json:"seconds"`         // from the first enqueue (or the worker's start) to the last attempt's end
	TasksPerSecond   float64      `json:"tasks_per_second"`
	TimedOut         bool         `json:"timed_out"`
}

type outcomeCount struct {
	OK    int64 `json:"ok"`
	Skip  int64 `json:"skip"`
	Other int64 `json:"other"`
}

// runLoad enqueues and processes many tasks and reports how fast that went. SIGTERM ends it early, with a report.
func runLoad(args []string, _ io.Reader, out io.Writer) error {
	flags := newFlags("load")
	l := loadingFlags(flags)
	if err := parseFlags(flags, args); err != nil {
		return err
	}
	if err := l.check(); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()

	ledger, err := openLedger(l.ledger)
	if err != nil {
		return err
	}
	defer ledger.close()
	consumer := newLoadConsumer(l, ledger)
	defer consumer.close()
	if !l.fillFirst {
		if err := consumer.start(ctx); err != nil {
			return err
		}
	}
	producers := &loadProducers{loading: l, ledger: ledger}
	if err := producers.run(ctx); err != nil {
		return err
	}
	if l.fillFirst {
		if err := consumer.start(ctx); err != nil {
			return err
		}
	}
	waitErr := consumer.finish(ctx)

	report := loadReport{TimedOut: waitErr != nil || ctx.Err() != nil}
	producers.report(&report)
	consumer.report(&report)
	report.TaskMS = percentilesOf(consumer.taskLatencies(producers.slot))
	return newLineWriter(out).emit(report)
}

// spec returns what task number n is to be: how it ends (see the ledger), its payload and its options. Which share a number falls into depends on the
// number alone, and the shares are spread evenly: multiples of the golden ratio fill the unit interval that way.
func (l *loading) spec(n int) (ends string, payload []byte, opts []asynq.Option) {
	const golden = 0.6180339887498949
	place := float64(n) * golden
	place -= float64(int(place))

	todo := instruction{Do: "ok"}
	ends, opts = "gone", []asynq.Option{asynq.Queue(l.queue)}
	switch {
	case place < l.archiveShare*l.rerunShare:
		todo = instruction{Do: "skip", SkipTimes: 1}
	case place < l.archiveShare:
		ends, todo = "archived", instruction{Do: "skip"}
	case place < l.archiveShare+l.retainShare:
		ends, opts = "completed", append(opts, asynq.Retention(l.retention))
	}
	todo.MS = int(l.taskTime.Milliseconds())
	payload = todo.payload()
	if missing := l.payloadBytes - len(payload); missing > 0 {
		payload = append(payload, strings.Repeat(" ", missing)...)
	}
	return ends, payload, opts
}

// loadProducers enqueue the tasks.
type loadProducers struct {
	*loading
	ledger  *ledger
	started time.Time
	seconds float64
	next    atomic.Int64 // number of the last task taken
	file    *bufio.Writer

	mu        sync.Mutex // guards what follows, and file
	latencies []time.Duration
	replayed  int
	uncertain []string
}

// run enqueues all tasks, or as many as it can until ctx ends.
func (p *loadProducers) run(ctx context.Context) error {
	client := asynq.NewClient(p.conn.options())
	defer client.Close()
	if err := client.Ping(); err != nil {
		return err
	}
	if p.ids != "" {
		file, err := os.Create(p.ids)
		if err != nil {
			return err
		}
		defer file.Close()
		p.file = bufio.NewWriter(file)
	}
	p.started = time.Now()
	var producing sync.WaitGroup
	for range max(p.producers, 1) {
		producing.Add(1)
		go func() {
			defer producing.Done()
			if p.wait == 0 {
				p.produce(ctx, unreplicated{client})
				return
			}
			replicated := newReplicated(p.conn, p.queue, p.wait)
			defer replicated.close()
			p.produce(ctx, replicated)
		}()
	}
	producing.Wait()
	p.seconds = time.Since(p.started).Seconds()
	if p.file != nil {
		return p.file.Flush()
	}
	return nil
}

// produce enqueues one task after the other until there is none left.
func (p *loadProducers) produce(ctx context.Context, via enqueuer) {
	for ctx.Err() == nil {
		n := int(p.next.Add(1))
		if n > p.tasks {
			return
		}
		began := p.slot(n)
		time.Sleep(time.Until(began))
		if p.rate == 0 {
			began = time.Now()
		}
		id := fmt.Sprintf("%s%d", p.idPrefix, n)
		replayed, err := p.enqueue(ctx, via, id, n)
		p.account(id, time.Since(began), replayed, err)
	}
}

// slot returns when task number n is due. With a rate, latency counts from there, so that a stall shows in every task it delays.
func (p *loadProducers) slot(n int) time.Time {
	if p.rate == 0 {
		return p.started
	}
	return p.started.Add(time.Duration(float64(n-1) / p.rate * float64(time.Second)))
}

// enqueue tries to enqueue a task until that succeeds or it is time to give up. A conflict is a success whose reply was
// lost: go-redis, or this loop, has sent the same ID again after a connection broke.
func (p *loadProducers) enqueue(ctx context.Context, via enqueuer, id string, n int) (replayed bool, err error) {
	ends, payload, opts := p.spec(n)
	task := asynq.NewTask(p.taskType, payload, append(opts, asynq.TaskID(id))...)
	deadline := time.Now().Add(p.giveUp)
	for {
		var at time.Time
		var acknowledged bool
		at, acknowledged, err = via.enqueue(ctx, task)
		replayed = errors.Is(err, asynq.ErrTaskIDConflict)
		if err == nil || replayed {
			p.ledger.write(at, entry{Event: "accepted", ID: id, Ends: ends, Acknowledged: acknowledged})
			return replayed, nil
		}
		p.ledger.write(at, entry{Event: "refused", ID: id, Error: err.Error()})
		if ctx.Err() != nil || time.Now().After(deadline) {
			return false, err
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (p *loadProducers) account(id string, latency time.Duration, replayed bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		p.uncertain = append(p.uncertain, id)
		return
	}
	p.latencies = append(p.latencies, latency)
	if replayed {
		p.replayed++
	}
	if p.file != nil {
		fmt.Fprintln(p.file, id)
	}
}

func (p *loadProducers) report(r *loadReport) {
	r.Enqueued = len(p.latencies)
	r.Replayed = p.replayed
	r.Uncertain = append([]string{}, p.uncertain...)
	r.EnqueueSeconds = p.seconds
	r.EnqueuePerSecond = float64(r.Enqueued) / p.seconds
	r.EnqueueMS = percentilesOf(p.latencies)
	r.Seconds = p.seconds
	r.TasksPerSecond = r.EnqueuePerSecond
}
