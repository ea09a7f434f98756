package main

import (
	"context"
	"flag"
	"strings"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
)

// A connection holds the flags that say where Redis, or the sidecar in front of it, listens.
type connection struct {
	addr     string
	db       int
	username string
	password string
	poolSize int
	master   string
	cluster  bool
}

// connectionFlags registers the connection flags that every command has.
func connectionFlags(flags *flag.FlagSet) *connection {
	c := new(connection)
	flags.StringVar(&c.addr, "redis", "127.0.0.1:6379", "`ADDRESS` to connect to: HOST:PORT or unix:PATH")
	flags.StringVar(&c.master, "master", "", "`NAME` of a master; -redis then lists the Sentinels that know where it is, with commas")
	flags.BoolVar(&c.cluster, "cluster", false, "-redis lists nodes of a cluster, with commas, that know all the others")
	flags.IntVar(&c.db, "db", 0, "database `NUMBER`")
	flags.StringVar(&c.username, "username", "", "ACL user")
	flags.StringVar(&c.password, "password", "", "password")
	flags.IntVar(&c.poolSize, "pool-size", 0, "connections per pool; 0 leaves it to go-redis (10 per CPU)")
	return c
}

// options returns what Asynq needs to connect.
func (c *connection) options() asynq.RedisConnOpt {
	if c.master != "" {
		return asynq.RedisFailoverClientOpt{
			MasterName:    c.master,
			SentinelAddrs: strings.Split(c.addr, ","),
			DB:            c.db,
			Username:      c.username,
			Password:      c.password,
			PoolSize:      c.poolSize,
		}
	}
	if c.cluster {
		return asynq.RedisClusterClientOpt{
			Addrs:    strings.Split(c.addr, ","),
			Username: c.username,
			Password: c.password,
		}
	}
	network, addr := c.socket()
	return asynq.RedisClientOpt{
		Network:  network,
		Addr:     addr,
		DB:       c.db,
		Username: c.username,
		Password: c.password,
		PoolSize: c.poolSize,
	}
}

// single returns a client that has at most one connection at a time, and says when it has made one.
func (c *connection) single(onConnect func(context.Context, *redis.Conn) error) redis.UniversalClient {
	if c.master != "" {
		return redis.NewFailoverClient(&redis.FailoverOptions{
			MasterName:    c.master,
			SentinelAddrs: strings.Split(c.addr, ","),
			DB:            c.db,
			Username:      c.username,
			Password:      c.password,
			PoolSize:      1,
			OnConnect:     onConnect,
		})
	}
	if c.cluster {
		return redis.NewClusterClient(&redis.ClusterOptions{
			Addrs:     strings.Split(c.addr, ","),
			Username:  c.username,
			Password:  c.password,
			PoolSize:  1,
			OnConnect: onConnect,
		})
	}
	network, addr := c.socket()
	return redis.NewClient(&redis.Options{
		Network:   network,
		Addr:      addr,
		DB:        c.db,
		Username:  c.username,
		Password:  c.password,
		PoolSize:  1,
		OnConnect: onConnect,
	})
}

// socket returns the network and the address to connect to.
func (c *connection) socket() (network, addr string) {
	if path, ok := strings.CutPrefix(c.addr, "unix:"); ok {
		return "unix", path
	}
	return "tcp", c.addr
}
