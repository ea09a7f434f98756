// Filler fills a Redis with tasks by way of whatever release of Asynq it is built with: it enqueues them, and lets a worker
// complete or archive them. It uses nothing that Asynq v0.19 does not have, so that `tests/filler.py` can build it with any
// release since then.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hibiken/asynq"
)

var (
	address     = flag.String("redis", "127.0.0.1:6379", "`HOST:PORT` of Redis")
	queue       = flag.String("queue", "default", "the queue")
	taskType    = flag.String("type", "fill:task", "the tasks' type")
	tasks       = flag.Int("tasks", 1000, "how many")
	payload     = flag.Int("payload", 100, "bytes of payload")
	retention   = flag.Duration("retention", 0, "how long completed tasks are kept")
	unique      = flag.Duration("unique", 0, "how long a task is unique; 0 is not")
	archive     = flag.Bool("archive", false, "the worker archives the tasks instead of completing them")
	pending     = flag.Bool("pending", false, "there is no worker: the tasks stay pending")
	producers   = flag.Int("producers", 32, "clients that enqueue at a time")
	concurrency = flag.Int("concurrency", 64, "tasks processed at a time")
)

func main() {
	flag.Parse()
	redis := asynq.RedisClientOpt{Addr: *address, PoolSize: *concurrency + *producers}
	var done atomic.Int64
	finished := make(chan struct{})
	handler := func(context.Context, *asynq.Task) error {
		if done.Add(1) == int64(*tasks) {
			close(finished)
		}
		if *archive {
			return fmt.Errorf("it was made to fail: %w", asynq.SkipRetry)
		}
		return nil
	}
	server := asynq.NewServer(redis, asynq.Config{
		Concurrency: *concurrency,
		Queues:      map[string]int{*queue: 1},
		LogLevel:    asynq.FatalLevel,
	})
	if !*pending {
		if err := server.Start(asynq.HandlerFunc(handler)); err != nil {
			log.Fatal(err)
		}
	}
	enqueue(redis)
	if !*pending {
		stop := make(chan os.Signal, 1)
		signal.Notify(stop, syscall.SIGTERM)
		select {
		case <-finished:
		case <-stop:
		}
		server.Shutdown()
	}
	fmt.Println(*tasks)
}

// enqueue enqueues the tasks, each with a payload of its own.
func enqueue(redis asynq.RedisClientOpt) {
	client := asynq.NewClient(redis)
	defer client.Close()
	var next atomic.Int64
	var all sync.WaitGroup
	for i := 0; i < *producers; i++ {
		all.Add(1)
		go func() {
			defer all.Done()
			for number := next.Add(1); number <= int64(*tasks); number = next.Add(1) {
				body := []byte(fmt.Sprintf("%0*d", *payload, number))
				options := []asynq.Option{asynq.Queue(*queue), asynq.Timeout(time.Hour)}
				if *retention > 0 {
					options = append(options, asynq.Retention(*retention))
				}
				if *unique > 0 {
					options = append(options, asynq.Unique(*unique))
				}
				if _, err := client.Enqueue(asynq.NewTask(*taskType, body), options...); err != nil {
					log.Fatal(err)
				}
			}
		}()
	}
	all.Wait()
}
