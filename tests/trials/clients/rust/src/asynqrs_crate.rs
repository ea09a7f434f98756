//! The crate `asynqrs`.

use std::time::Duration;

use asynqrs::{
    Config, EnqueueOptions, Handler, HandlerError, Inspector, LogLevel, ProcessingContext,
    RedisBackedClient, RedisBackedServerBuilder, Task, TaskId,
};

use crate::{fails, NewTask, Outcome};

const QUEUE: &str = "default";

/// Do one operation at a Redis and return what it answers.
pub async fn operate(url: &str, operation: &[&str]) -> Outcome {
    let redis = redis::Client::open(url)?;
    match operation {
        ["enqueue", words @ ..] => enqueue(redis, NewTask::read(words)?).await,
        ["work"] => work(redis).await,
        _ => inspect(redis, operation).await,
    }
}

async fn enqueue(redis: redis::Client, new: NewTask) -> Outcome {
    let mut client = RedisBackedClient::from_redis_client(redis).await?;
    let options = EnqueueOptions::new()
        .task_id(TaskId::new(new.id)?)
        .retain_for(new.retention)
        .max_retries(new.max_retry.into());
    let task = Task::new(new.kind, b"{}".to_vec());
    Ok(client.enqueue_with_async(&task, options).await?.id().to_string())
}

#[derive(Clone)]
struct Quick;

#[async_trait::async_trait]
impl Handler for Quick {
    async fn process_task(&mut self, task: &Task, _: &ProcessingContext) -> Result<(), HandlerError> {
        if fails(task.task_type()) {
            return Err(HandlerError::failed("it fails"));
        }
        Ok(())
    }
}

async fn work(redis: redis::Client) -> Outcome {
    let config = Config::builder()
        .concurrency(2)
        .try_queue(QUEUE, 1usize)?
        .log_level(LogLevel::Warn)
        .task_check_interval(Duration::from_millis(50))
        .try_build()?;
    RedisBackedServerBuilder::from_redis_client(redis, config).run(Quick).await?;
    Ok("stopped".into())
}

async fn inspect(redis: redis::Client, operation: &[&str]) -> Outcome {
    let mut inspector = Inspector::from_redis_client(redis).await?;
    match operation {
        ["run", id] => inspector.run_task(QUEUE, id).await?,
        ["archive", id] => inspector.archive_task(QUEUE, id).await?,
        ["run-all"] => return Ok(inspector.run_all_archived_tasks(QUEUE).await?.to_string()),
        ["archive-all"] => return Ok(inspector.archive_all_pending_tasks(QUEUE).await?.to_string()),
        _ => return Err("no such operation".into()),
    }
    Ok("1".into())
}
