//! A lock for reading by batches of packets and for writing by commands, at which both get their turn.
//!
//! The standard lock prefers writers, so a batch never holds up a command for longer than itself. But
//! commands that come one right after the other would keep batches out until the last is done. So a command
//! lets those in first that are waiting already.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread;

/// How often a command steps back at most; a thread that is not scheduled cannot hold it up for ever.
const STEPS_BACK: usize = 50;

/// The lock and what it guards.
#[derive(Default)]
pub struct Turns<T> {
    lock: RwLock<T>,
    waiting_readers: AtomicUsize,
}

// A panic is told as `EngineFailed`; nothing is left half done by one that still matters. So poison is ignored.
impl<T> Turns<T> {
    /// For a batch of packets.
    pub fn read(&self) -> RwLockReadGuard<'_, T> {
        if let Ok(guard) = self.lock.try_read() {
            return guard;
        }
        self.waiting_readers.fetch_add(1, Ordering::SeqCst);
        let guard = self.lock.read().unwrap_or_else(PoisonError::into_inner);
        self.waiting_readers.fetch_sub(1, Ordering::SeqCst);
        guard
    }

    /// For a command: waits for the batches under way.
    pub fn write(&self) -> RwLockWriteGuard<'_, T> {
        for _ in 0..STEPS_BACK {
            if self.waiting_readers.load(Ordering::SeqCst) == 0 {
                break;
            }
            thread::yield_now();
        }
        self.lock.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;

    #[test]
    fn readers_get_in_between_writers_that_come_without_a_pause() {
        let (turns, is_done) = (Turns::<u64>::default(), AtomicBool::new(false));
        let mut most_between = 0;
        thread::scope(|scope| {
            scope.spawn(|| {
                while !is_done.load(Ordering::SeqCst) {
                    *turns.write() += 1;
                }
            });
            let mut before = *turns.read();
            for _ in 0..200 {
                let now = *turns.read();
                most_between = most_between.max(now - before);
                before = now;
            }
            is_done.store(true, Ordering::SeqCst);
        });
        assert!(most_between < 1_000_000, "{most_between} writes between two reads");
    }
}
