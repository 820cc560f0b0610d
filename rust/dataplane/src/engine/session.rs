//! Keypairs in their three slots (paper §6, kernel noise.c), and what was decided about each.
//!
//! `current` sends; `previous` still receives what was under way when it was replaced; `next` was made by a
//! responder and sends only once a message proves that the initiator has it too.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::keypair::Keypair;
use crate::message::{REJECT_AFTER_MESSAGES, REJECT_AFTER_TIME};

const SECOND: u64 = 1_000_000_000;
/// A keypair that has sent this many is to be replaced.
pub const REKEY_AFTER_MESSAGES: u64 = 1 << 60;
/// An initiator replaces a keypair of this age when it sends.
pub const REKEY_AFTER_TIME: u64 = 120 * SECOND;
/// An initiator replaces a keypair of this age when it receives: the last chance before it is too old.
pub const REKEY_AFTER_TIME_RECEIVING: u64 = 165 * SECOND;

/// A keypair and what was said of it.
pub struct Session {
    /// Its keys.
    pub keypair: Keypair,
    expired: AtomicBool,
    rekey_said_on_send: AtomicBool,
    rekey_said_on_receive: AtomicBool,
}

impl Session {
    /// A session that nothing was said of.
    #[must_use]
    pub fn new(keypair: Keypair) -> Self {
        let said = AtomicBool::default;
        Self { keypair, expired: said(), rekey_said_on_send: said(), rekey_said_on_receive: said() }
    }

    /// Whether it may send now.
    #[must_use]
    pub fn may_send(&self, now: u64) -> bool {
        !self.expired.load(Ordering::Relaxed)
            && self.keypair.next_counter() < REJECT_AFTER_MESSAGES
            && now.saturating_sub(self.keypair.created_at) < REJECT_AFTER_TIME
    }

    /// Something was sent: whether that asks for a new keypair, which is said once a watch. A responder's
    /// age never does.
    pub fn is_rekey_due_on_send(&self, now: u64) -> bool {
        let is_due = !self.expired.load(Ordering::Relaxed)
            && (self.keypair.next_counter() > REKEY_AFTER_MESSAGES
                || (self.keypair.is_initiator
                    && now.saturating_sub(self.keypair.created_at) >= REKEY_AFTER_TIME));
        is_due && !self.rekey_said_on_send.swap(true, Ordering::Relaxed)
    }

    /// Something was received: whether that asks for a new keypair, which is said once.
    pub fn is_rekey_due_on_receive(&self, now: u64) -> bool {
        let is_due = !self.expired.load(Ordering::Relaxed)
            && self.keypair.is_initiator
            && now.saturating_sub(self.keypair.created_at) >= REKEY_AFTER_TIME_RECEIVING;
        is_due && !self.rekey_said_on_receive.swap(true, Ordering::Relaxed)
    }

    /// A new watch: it may be said again.
    pub fn ask_again_on_send(&self) {
        self.rekey_said_on_send.store(false, Ordering::Relaxed);
    }
}

/// The three slots. A change gives the sessions that fell out, whose indices are free.
#[derive(Default)]
pub struct Slots {
    /// Sends.
    pub current: Option<Arc<Session>>,
    /// Receives.
    pub previous: Option<Arc<Session>>,
    /// Receives, and sends once confirmed.
    pub next: Option<Arc<Session>>,
}

/// Sessions that fell out of their slots.
pub type Fallen = [Option<Arc<Session>>; 3];

impl Slots {
    /// A handshake ended. The initiator may send at once: the response proved that the responder has the
    /// keys.
    #[must_use]
    pub fn add(&mut self, new: Arc<Session>) -> Fallen {
        if !new.keypair.is_initiator {
            return [self.next.replace(new), self.previous.take(), None];
        }
        let current = self.current.replace(new);
        // We were a responder too and never saw it confirmed: what the other end may be sending with is
        // `next`.
        match self.next.take() {
            Some(next) => [self.previous.replace(next), current, None],
            None => [std::mem::replace(&mut self.previous, current), None, None],
        }
    }

    /// A message came with `next`: from now on it sends.
    #[must_use]
    pub fn confirm(&mut self) -> Fallen {
        let next = self.next.take();
        let fallen = std::mem::replace(&mut self.previous, std::mem::replace(&mut self.current, next));
        [fallen, None, None]
    }

    /// Whether this session waits to be confirmed.
    #[must_use]
    pub fn is_next(&self, session: &Arc<Session>) -> bool {
        self.next.as_ref().is_some_and(|next| Arc::ptr_eq(next, session))
    }

    /// Stop sending with any of them.
    pub fn expire(&self) {
        for session in [&self.current, &self.next].into_iter().flatten() {
            session.expired.store(true, Ordering::Relaxed);
        }
    }

    /// Empty all.
    #[must_use]
    pub fn wipe(&mut self) -> Fallen {
        [self.current.take(), self.previous.take(), self.next.take()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keypair::Established;

    fn session(is_initiator: bool, local_index: u32) -> Arc<Session> {
        let established =
            Established { local_index, remote_index: 0, is_initiator, peer: 1, created_at: SECOND };
        Arc::new(Session::new(Keypair::new(&[1; 32], established)))
    }

    fn indices(sessions: [&Option<Arc<Session>>; 3]) -> [u32; 3] {
        sessions.map(|session| session.as_ref().map_or(0, |session| session.keypair.local_index))
    }

    fn slots(slots: &Slots) -> [u32; 3] {
        indices([&slots.previous, &slots.current, &slots.next])
    }

    #[test]
    fn slots_rotate_as_in_the_kernel() {
        let mut it = Slots::default();
        let fallen = |fallen: Fallen| indices([&fallen[0], &fallen[1], &fallen[2]]);
        assert_eq!(fallen(it.add(session(true, 1))), [0, 0, 0]);
        assert_eq!(fallen(it.add(session(true, 2))), [0, 0, 0]);
        assert_eq!(slots(&it), [1, 2, 0]);
        assert_eq!(fallen(it.add(session(false, 3))), [0, 1, 0]);
        assert_eq!(slots(&it), [0, 2, 3]);
        assert_eq!(fallen(it.add(session(false, 4))), [3, 0, 0]);
        assert_eq!(fallen(it.confirm()), [0, 0, 0]);
        assert_eq!(slots(&it), [2, 4, 0]);
        assert_eq!(fallen(it.add(session(false, 5))), [0, 2, 0]);
        assert_eq!(fallen(it.add(session(true, 6))), [0, 4, 0]);
        assert_eq!(slots(&it), [5, 6, 0]);
        assert_eq!(fallen(it.wipe()), [6, 5, 0]);
    }

    #[test]
    fn the_papers_table_of_limits_holds() {
        for (is_initiator, age, may_send, on_send, on_receive) in [
            (true, 0, true, false, false),
            (true, 119, true, false, false),
            (true, 120, true, true, false),
            (true, 164, true, true, false),
            (true, 165, true, true, true),
            (true, 179, true, true, true),
            (true, 180, false, true, true),
            (false, 179, true, false, false),
            (false, 180, false, false, false),
        ] {
            let (it, now) = (session(is_initiator, 1), (age + 1) * SECOND);
            let judged = (it.may_send(now), it.is_rekey_due_on_send(now), it.is_rekey_due_on_receive(now));
            assert_eq!(judged, (may_send, on_send, on_receive), "{age} s");
            assert!(!it.is_rekey_due_on_send(now) && !it.is_rekey_due_on_receive(now), "said once");
            it.ask_again_on_send();
            assert_eq!(it.is_rekey_due_on_send(now), on_send, "once a watch");
        }
        let it = session(false, 1);
        it.keypair.skip_counters(REKEY_AFTER_MESSAGES);
        assert!(!it.is_rekey_due_on_send(SECOND));
        it.keypair.skip_counters(REKEY_AFTER_MESSAGES + 1);
        assert!(it.is_rekey_due_on_send(SECOND));
        it.keypair.skip_counters(REJECT_AFTER_MESSAGES);
        assert!(!it.may_send(SECOND));
    }
}
