package main

import (
	"flag"
	"strings"

	"github.com/hibiken/asynq"
)

// A connection holds the flags that say where Redis, or the sidecar in front of it, listens.
type connection struct {
	addr     string
	db       int
	username string
	password string
	poolSize int
}

// connectionFlags registers the connection flags that every command has.
func connectionFlags(flags *flag.FlagSet) *connection {
	c := new(connection)
	flags.StringVar(&c.addr, "redis", "127.0.0.1:6379", "`ADDRESS` to connect to: HOST:PORT or unix:PATH")
	flags.IntVar(&c.db, "db", 0, "database `NUMBER`")
	flags.StringVar(&c.username, "username", "", "ACL user")
	flags.StringVar(&c.password, "password", "", "password")
	flags.IntVar(&c.poolSize, "pool-size", 0, "connections per pool; 0 leaves it to go-redis (10 per CPU)")
	return c
}

// options returns what Asynq needs to connect.
func (c *connection) options() asynq.RedisClientOpt {
	opt := asynq.RedisClientOpt{
		Network:  "tcp",
		Addr:     c.addr,
		DB:       c.db,
		Username: c.username,
		Password: c.password,
		PoolSize: c.poolSize,
	}
	if path, ok := strings.CutPrefix(c.addr, "unix:"); ok {
		opt.Network, opt.Addr = "unix", path
	}
	return opt
}
