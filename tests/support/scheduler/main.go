// Scheduler runs the Scheduler of whatever release of Asynq it is built with, with one entry that enqueues a task each
// second. It prints the entry's ID, and ends gracefully by SIGTERM. It uses nothing that Asynq v0.18 does not have.
package main

import (
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"syscall"

	"github.com/hibiken/asynq"
)

var address = flag.String("redis", "127.0.0.1:6379", "`HOST:PORT` of Redis")

func main() {
	flag.Parse()
	scheduler := asynq.NewScheduler(
		asynq.RedisClientOpt{Addr: *address},
		&asynq.SchedulerOpts{LogLevel: asynq.FatalLevel},
	)
	entry, err := scheduler.Register("@every 1s", asynq.NewTask("tick", nil))
	if err != nil {
		log.Fatal(err)
	}
	if err := scheduler.Start(); err != nil {
		log.Fatal(err)
	}
	fmt.Println(entry)
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	<-stop
	scheduler.Shutdown()
}
