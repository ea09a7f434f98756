package main

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/hibiken/asynq"
)

// A taskSpec is one line of input of the enqueue command: a task and the options it is enqueued with.
type taskSpec struct {
	Type       string            `json:"type"`
	Payload    string            `json:"payload"`
	PayloadB64 []byte            `json:"payload_b64"` // instead of Payload, for bytes that are not UTF-8
	Headers    map[string]string `json:"headers"`
	ID         string            `json:"id"`
	Queue      string            `json:"queue"`
	Group      string            `json:"group"`
	MaxRetry   *int              `json:"max_retry"`
	Timeout    duration          `json:"timeout"`
	DeadlineIn duration          `json:"deadline_in"`
	Unique     duration          `json:"unique"`
	Retention  duration          `json:"retention"`
	ProcessIn  duration          `json:"process_in"`
	Repeat     int               `json:"repeat"`

	line  int   // number of the input line
	fault error // what is wrong with the line
}

// task builds the Asynq task, with its options.
func (s *taskSpec) task() *asynq.Task {
	payload := s.PayloadB64
	if payload == nil {
		payload = []byte(s.Payload)
	}
	return asynq.NewTaskWithHeaders(s.Type, payload, s.Headers, s.options()...)
}

func (s *taskSpec) options() []asynq.Option {
	var opts []asynq.Option
	add := func(wanted bool, opt asynq.Option) {
		if wanted {
			opts = append(opts, opt)
		}
	}
	add(s.ID != "", asynq.TaskID(s.ID))
	add(s.Queue != "", asynq.Queue(s.Queue))
	add(s.Group != "", asynq.Group(s.Group))
	add(s.Timeout != 0, asynq.Timeout(time.Duration(s.Timeout)))
	add(s.DeadlineIn != 0, asynq.Deadline(time.Now().Add(time.Duration(s.DeadlineIn))))
	add(s.Unique != 0, asynq.Unique(time.Duration(s.Unique)))
	add(s.Retention != 0, asynq.Retention(time.Duration(s.Retention)))
	add(s.ProcessIn != 0, asynq.ProcessIn(time.Duration(s.ProcessIn)))
	if s.MaxRetry != nil {
		opts = append(opts, asynq.MaxRetry(*s.MaxRetry))
	}
	return opts
}

// check refuses what no enqueue can mean.
func (s *taskSpec) check() error {
	if s.Repeat > 1 && s.ID != "" {
		return errors.New("repeat makes copies of a task, so it cannot have a fixed id")
	}
	if s.PayloadB64 != nil && s.Payload != "" {
		return errors.New("payload and payload_b64 exclude each other")
	}
	return nil
}

// accepted and refused are the two shapes of answer; Line is the number of the input line they answer.
type accepted struct {
	ID    string `json:"id"`
	Queue string `json:"queue"`
	Type  string `json:"type"`
	State string `json:"state"`
	Line  int    `json:"line"`
}

type refused struct {
	Error string `json:"error"`
	Kind  string `json:"kind"` // duplicate, conflict or other
	Line  int    `json:"line"`
}

func refusal(err error, line int) refused {
	kind := "other"
	switch {
	case errors.Is(err, asynq.ErrDuplicateTask):
		kind = "duplicate"
	case errors.Is(err, asynq.ErrTaskIDConflict):
		kind = "conflict"
	}
	return refused{Error: err.Error(), Kind: kind, Line: line}
}

// runEnqueue enqueues every task described on in and answers each on out, in the order of the lines if there is one producer.
// It fails only if Redis cannot be reached before the first or after the last task; what becomes of each is in its answer.
func runEnqueue(args []string, in io.Reader, out io.Writer) error {
	flags := newFlags("enqueue")
	conn := connectionFlags(flags)
	parallel := flags.Int("parallel", 1, "number of producers")
	if err := parseFlags(flags, args); err != nil {
		return err
	}
	client := asynq.NewClient(conn.options())
	defer client.Close()
	if err := client.Ping(); err != nil {
		return err
	}

	answers := newLineWriter(out)
	specs := make(chan *taskSpec)
	var producers sync.WaitGroup
	for range max(*parallel, 1) {
		producers.Add(1)
		go func() {
			defer producers.Done()
			produce(client, specs, answers)
		}()
	}
	err := readSpecs(in, specs)
	close(specs)
	producers.Wait()
	return errors.Join(err, client.Ping())
}

// readSpecs sends every task described on in to specs, as many times as it is to be repeated.
func readSpecs(in io.Reader, specs chan<- *taskSpec) error {
	return eachLine(in, func(number int, line []byte) error {
		spec := new(taskSpec)
		fault := decodeLine(line, spec)
		if fault == nil {
			fault = spec.check()
		}
		if fault != nil {
			spec = &taskSpec{fault: fmt.Errorf("line %d: %w", number, fault)}
		}
		spec.line = number
		for range max(spec.Repeat, 1) {
			specs <- spec
		}
		return nil
	})
}

// produce enqueues what arrives on specs and answers it.
func produce(client *asynq.Client, specs <-chan *taskSpec, answers *lineWriter) {
	for spec := range specs {
		if spec.fault != nil {
			answers.emit(refusal(spec.fault, spec.line))
			continue
		}
		info, err := client.Enqueue(spec.task())
		if err != nil {
			answers.emit(refusal(err, spec.line))
			continue
		}
		answers.emit(accepted{info.ID, info.Queue, info.Type, info.State.String(), spec.line})
	}
}
