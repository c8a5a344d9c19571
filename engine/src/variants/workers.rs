//! Threads that encode: few, and of the lowest priority, so that whoever serves or publishes goes first.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;
use std::{io, panic, thread};

use parking_lot::Mutex;
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::oneshot;

/// The lowest priority that a thread can have beside others that want to run.
const NICEST: i32 = 19;

type Job = Box<dyn FnOnce(&AtomicBool) + Send>;

/// Threads that take one piece of work after another. They end with this.
#[derive(Debug)]
pub(super) struct Workers {
    /// Nothing once they are to end.
    jobs: Option<mpsc::Sender<Job>>,
    stop: Arc<AtomicBool>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Workers {
    /// Starts `count` threads.
    pub(super) fn start(count: usize) -> io::Result<Self> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let (queue, stop) = (Arc::new(Mutex::new(queue)), Arc::new(AtomicBool::new(false)));
        let mut workers = Self { jobs: Some(jobs), stop: Arc::clone(&stop), threads: Vec::with_capacity(count) };
        for number in 0..count {
            let (queue, stop) = (Arc::clone(&queue), Arc::clone(&stop));
            let work = move || {
                yield_to_others();
                loop {
                    // The lock is held while it is waited: the others wait for the lock instead.
                    let job = queue.lock().recv();
                    let Ok(job) = job else { return };
                    // Whoever asked is told by the end of the channel that nothing will come.
                    let _ = panic::catch_unwind(AssertUnwindSafe(|| job(&stop)));
                }
            };
            workers.threads.push(thread::Builder::new().name(format!("variants-{number}")).spawn(work)?);
        }
        Ok(workers)
    }

    /// Has them give up what they do.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    pub(super) fn count(&self) -> usize {
        self.threads.len()
    }

    /// Runs `work` on one of the threads, with a flag that says to give up. Answers how much of the processor it took,
    /// too; nothing where it panicked.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&AtomicBool) -> T + Send + 'static,
    ) -> Option<(T, Duration)> {
        let (answer, done) = oneshot::channel();
        let job = move |stop: &AtomicBool| {
            let before = processor_time();
            let worked = work(stop);
            // Nobody waits any more where the engine was closed.
            let _ = answer.send((worked, processor_time().saturating_sub(before)));
        };
        self.jobs.as_ref()?.send(Box::new(job)).ok()?;
        done.await.ok()
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.stop();
        drop(self.jobs.take());
        for thread in self.threads.drain(..) {
            // They look at the flag a few times a second, and what panicked was caught.
            let _ = thread.join();
        }
    }
}

/// Gives the calling thread the lowest priority.
fn yield_to_others() {
    // On Linux this is about one thread; elsewhere it would slow the whole process down.
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, NICEST) {
        tracing::debug!(%error, "a thread that encodes could not be given a low priority");
    }
    #[cfg(not(target_os = "linux"))]
    let _ = NICEST;
}

/// How long the calling thread has run on a processor.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let (seconds, nanos) = (u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0));
    Duration::new(seconds, nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_is_done_elsewhere_and_a_panic_ends_no_thread() {
        let workers = Workers::start(2).unwrap();
        assert_eq!(workers.count(), 2);
        for _ in 0..4 {
            assert_eq!(workers.run(|_| -> u8 { panic!("this is a test") }).await, None);
        }
        let name = |_: &AtomicBool| thread::current().name().map(str::to_owned);
        let (name, _) = workers.run(name).await.unwrap();
        assert!(name.unwrap().starts_with("variants-"));
        let (_, took) = workers.run(|_| (0..2_000_000_u64).fold(0, |a, b| std::hint::black_box(a ^ b))).await.unwrap();
        assert!(took > Duration::ZERO);
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn the_threads_are_nice_and_nobody_else_is() {
        let before = rustix::process::getpriority_process(None).unwrap();
        let workers = Workers::start(1).unwrap();
        let (priority, _) = workers.run(|_| rustix::process::getpriority_process(None).unwrap()).await.unwrap();
        assert_eq!(priority, NICEST);
        assert_eq!(rustix::process::getpriority_process(None).unwrap(), before);
    }

    #[tokio::test]
    async fn an_end_stops_what_is_under_way() {
        let workers = Workers::start(1).unwrap();
        let (began, begun) = oneshot::channel();
        let mut work = Box::pin(workers.run(move |stop| {
            let _ = began.send(());
            while !stop.load(Ordering::Relaxed) {
                thread::yield_now();
            }
        }));
        tokio::select! {
            _ = &mut work => panic!("it ended before its time"),
            begun = begun => begun.unwrap(),
        }
        drop(work);
        drop(workers);
    }
}
