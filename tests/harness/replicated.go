package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
)

const (
	// acknowledgeKey is written after each task whose replication is waited for; in a cluster it is where the queue is.
	acknowledgeKey = "harness:acknowledge:{%s}"
	// acknowledgeTimeout is how long replicas may take.
	acknowledgeTimeout = 300 * time.Millisecond
)

// An enqueuer enqueues one task after the other.
type enqueuer interface {
	// enqueue returns when it was answered, and whether replicas are known to have the task. That a task with this ID exists
	// is an error.
	enqueue(ctx context.Context, task *asynq.Task) (at time.Time, acknowledged bool, err error)
}

// An unreplicated enqueuer is Asynq's own client, and waits for no replica.
type unreplicated struct{ client *asynq.Client }

func (u unreplicated) enqueue(ctx context.Context, task *asynq.Task) (time.Time, bool, error) {
	_, err := u.client.EnqueueContext(ctx, task)
	return time.Now(), false, err
}

// A replicated enqueuer is Asynq's own client on one connection of its own, and asks Redis after each task whether its
// replicas have it. Once they do, no failover may lose it. In a cluster it asks the master that has the queue.
type replicated struct {
	client      *asynq.Client
	redis       redis.UniversalClient
	replicas    int
	key         string
	connections atomic.Int64 // made so far
}

func newReplicated(c *connection, queue string, replicas int) *replicated {
	r := &replicated{replicas: replicas, key: fmt.Sprintf(acknowledgeKey, queue)}
	r.redis = c.single(func(context.Context, *redis.Conn) error {
		r.connections.Add(1)
		return nil
	})
	r.client = asynq.NewClientFromRedisClient(r.redis)
	return r
}

func (r *replicated) enqueue(ctx context.Context, task *asynq.Task) (time.Time, bool, error) {
	connection := r.connections.Load()
	_, err := r.client.EnqueueContext(ctx, task)
	at := time.Now()
	if err != nil && !errors.Is(err, asynq.ErrTaskIDConflict) {
		return at, false, err
	}
	return at, r.acknowledged(ctx) && r.connections.Load() == connection, err
}

// acknowledged reports whether replicas have what this connection has seen. WAIT is about what its connection wrote, and a
// task that was there already was written by another: so something is written first. The answer counts only if the connection
// is still the one that saw the task, as another one may lead to another server.
func (r *replicated) acknowledged(ctx context.Context) bool {
	pipeline := r.redis.Pipeline()
	if cluster, is := r.redis.(*redis.ClusterClient); is {
		master, err := cluster.MasterForKey(ctx, r.key)
		if err != nil {
			return false
		}
		pipeline = master.Pipeline() // follows no redirection
	}
	pipeline.Set(ctx, r.key, "", time.Minute)
	wait := pipeline.Do(ctx, "WAIT", r.replicas, acknowledgeTimeout.Milliseconds())
	if _, err := pipeline.Exec(ctx); err != nil {
		return false
	}
	have, err := wait.Int()
	return err == nil && have >= r.replicas
}

func (r *replicated) close() { r.redis.Close() }
