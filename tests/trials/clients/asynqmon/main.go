// Asynqmon's HTTP API at a Redis, for tests: asynqmon HOST:PORT. It prints the address it listens at.
package main

import (
	"fmt"
	"net"
	"net/http"
	"os"

	"github.com/hibiken/asynq"
	"github.com/hibiken/asynqmon"
)

func main() {
	redis := asynq.RedisClientOpt{Addr: os.Args[1]}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(listener.Addr())
	handler := asynqmon.New(asynqmon.Options{RedisConnOpt: redis})
	fmt.Fprintln(os.Stderr, http.Serve(listener, handler))
	os.Exit(1)
}
