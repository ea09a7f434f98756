//! Real Rust clients of Asynq for tests; programs.py has the operations.

mod asynq_crate;
mod asynqrs_crate;

use std::time::Duration;

type Outcome = Result<String, Box<dyn std::error::Error>>;

/// A task to be enqueued, in the queue `default`.
struct NewTask {
    id: String,
    kind: String,
    retention: Duration,
    max_retry: u16,
}

impl NewTask {
    fn read(words: &[&str]) -> Result<Self, Box<dyn std::error::Error>> {
        let [id, kind, retention, max_retry] = words else {
            return Err("enqueue ID TYPE RETENTION MAX_RETRY".into());
        };
        Ok(Self {
            id: id.to_string(),
            kind: kind.to_string(),
            retention: Duration::from_secs(retention.parse()?),
            max_retry: max_retry.parse()?,
        })
    }
}

/// Say whether a handler fails on a type of task.
fn fails(kind: &str) -> bool {
    kind.starts_with("fail")
}

#[tokio::main]
async fn main() {
    // What a client says by itself, from warnings on.
    tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::WARN)
        .with_writer(std::io::stderr)
        .without_time()
        .with_ansi(false)
        .init();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["asynq", address, operation @ ..] => {
            asynq_crate::operate(&format!("redis://{address}"), operation).await
        }
        ["asynqrs", address, operation @ ..] => {
            asynqrs_crate::operate(&format!("redis://{address}"), operation).await
        }
        _ => Err("CRATE ADDRESS OPERATION ...".into()),
    };
    match outcome {
        Ok(answer) => println!("{answer}"),
        Err(error) => {
            eprintln!("{error}");
            std::process::exit(1);
        }
    }
}
