//! The crate `asynq`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use asynq::backend::{RedisBroker, RedisConnectionType, RedisInspector};
use asynq::client::Client;
use asynq::config::ServerConfig;
use asynq::error::Error;
use asynq::inspector::InspectorTrait;
use asynq::server::{Handler, ServerBuilder};
use asynq::task::Task;

use crate::{fails, NewTask, Outcome};

const QUEUE: &str = "default";

/// Do one operation at a Redis and return what it answers.
pub async fn operate(url: &str, operation: &[&str]) -> Outcome {
    let redis = RedisConnectionType::single(url.to_string())?;
    match operation {
        ["enqueue", words @ ..] => enqueue(redis, NewTask::read(words)?).await,
        ["work"] => work(redis).await,
        _ => inspect(redis, operation).await,
    }
}

async fn enqueue(redis: RedisConnectionType, new: NewTask) -> Outcome {
    let task = Task::new(&new.kind, b"{}")?
        .with_task_id(&new.id)
        .with_retention(new.retention)
        .with_max_retry(new.max_retry.into());
    Ok(Client::new(redis).await?.enqueue(task).await?.id)
}

struct Quick;

#[async_trait::async_trait]
impl Handler for Quick {
    async fn process_task(&self, task: Task) -> Result<(), Error> {
        if fails(task.get_type()) {
            return Err(Error::other("it fails"));
        }
        Ok(())
    }
}

async fn work(redis: RedisConnectionType) -> Outcome {
    let config = ServerConfig::new()
        .concurrency(2)
        .queues(HashMap::from([(QUEUE.to_string(), 1)]))
        .task_check_interval(Duration::from_millis(50));
    let server = ServerBuilder::new().redis_config(redis).server_config(config);
    server.build().await?.run(Quick).await?;
    Ok("stopped".into())
}

async fn inspect(redis: RedisConnectionType, operation: &[&str]) -> Outcome {
    let inspector = RedisInspector::from_broker(Arc::new(RedisBroker::new(redis).await?));
    match operation {
        ["run", id] => inspector.run_task(QUEUE, id).await?,
        ["archive", id] => inspector.archive_task(QUEUE, id).await?,
        ["run-all"] => return Ok(inspector.requeue_all_archived_tasks(QUEUE).await?.to_string()),
        ["archive-all"] => return Ok(inspector.archive_all_pending_tasks(QUEUE).await?.to_string()),
        _ => return Err("no such operation".into()),
    }
    Ok("1".into())
}
