//! What a relay does with what it receives.

use std::net::SocketAddr;

use blake2::digest::Mac;

use super::cookie::{Cookies, mac};
use super::message::{
    ACK, ACK_SIGNED, ACK_SIZE, COOKIE, COOKIE_MESSAGE_SIZE, DATA, DATA_HEADER_SIZE, DRAINING, HELLO,
    HELLO_SIZE, KEEPALIVE, KEEPALIVE_SIGNED, KEEPALIVE_SIZE, MAC_SIZE, MIN_DATA_SIZE, NOTICE, NOTICE_SIZE,
    OTHER_ADDRESS, RANDOM_SIZE, REGISTER, REGISTER_SIZE, UNKNOWN_SESSION, data_header, header,
    kind_untrusted, numbers_untrusted, observed,
};
use super::sessions::{NodeAddress, Session, Sessions};
use super::shares::{Rates, Shares};
use super::stun;
use crate::engine::{Origin, RateLimiter, Received, Udp};
use zeroize::Zeroizing;

const SECOND: u64 = 1_000_000_000;
/// A session that proved nothing for so long ends.
const SESSION_AGE: u64 = 90 * SECOND;

/// What a relay was told.
#[derive(Clone)]
pub struct Settings {
    /// Sessions at once.
    pub most_sessions: usize,
    /// Octets a second, 0 for no limit: of one sender.
    pub rate_of_each: u64,
    /// The same of all together.
    pub rate_of_all: u64,
    /// Under which receipts are made.
    pub receipt_key: Zeroizing<[u8; 32]>,
}

/// A REGISTER whose cookie is right, to be judged above.
pub type Registration = (Box<[u8]>, Origin);

/// How many of each there were.
#[derive(Clone, Copy, Default)]
#[allow(missing_docs)]
pub struct Counts {
    pub forwarded: u64,
    pub forwarded_octets: u64,
    pub unknown_session: u64,
    pub other_address: u64,
    pub no_receiver: u64,
    pub over_rate: u64,
    pub unsent: u64,
    pub refused: u64,
    pub other: u64,
}

impl Counts {
    /// With names, for reports.
    #[must_use]
    pub fn named(&self) -> [(&'static str, u64); 9] {
        [
            ("forwarded", self.forwarded),
            ("forwarded octets", self.forwarded_octets),
            ("unknown session", self.unknown_session),
            ("another address", self.other_address),
            ("no such receiver", self.no_receiver),
            ("over its rate", self.over_rate),
            ("not sent", self.unsent),
            ("not let in", self.refused),
            ("not understood", self.other),
        ]
    }
}

/// See the module.
pub struct Forwarder {
    sessions: Sessions,
    shares: Shares,
    cookies: Cookies,
    registers: RateLimiter,
    receipt_key: Zeroizing<[u8; 32]>,
    is_draining: bool,
    counts: Counts,
}

impl Forwarder {
    /// Nobody is there yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            sessions: Sessions::new(settings.most_sessions),
            shares: Shares::new(Rates { each: settings.rate_of_each, all: settings.rate_of_all }),
            cookies: Cookies::default(),
            registers: RateLimiter::default(),
            receipt_key: settings.receipt_key,
            is_draining: false,
            counts: Counts::default(),
        }
    }

    /// What was done so far, and how many sessions there are.
    #[must_use]
    pub fn counts(&self) -> (Counts, usize) {
        (self.counts, self.sessions.len())
    }

    /// A node proved itself: its session. None: there is no room.
    pub fn admit(&mut self, node: NodeAddress, key: [u8; 32], origin: Origin, now: u64) -> Option<u64> {
        self.sessions.add(node, key, origin, now)
    }

    /// End a node's session. False: it has none.
    pub fn remove(&mut self, node: &NodeAddress) -> bool {
        self.sessions.remove(node)
    }

    /// End what has been silent for too long; gives how many.
    pub fn expire(&mut self, now: u64) -> usize {
        self.sessions.expire(now.saturating_sub(SESSION_AGE))
    }

    /// Tell every node to use another relay. Forwarding goes on.
    pub fn drain<U: Udp>(&mut self, udp: &U) {
        self.is_draining = true;
        for session in self.sessions.iter() {
            let message = ack(session, DRAINING);
            udp.send(&message, message.len(), session.origin.remote, Some(&session.origin), 0);
        }
    }

    /// Datagrams came in. `other_port` is where we answer STUN, too. Registrations are handed to `judge`.
    pub fn received<U: Udp>(
        &mut self,
        udp: &U,
        buffer: &mut [u8],
        received: &Received,
        other_port: Option<u16>,
        now: u64,
        judge: &mut impl FnMut(Registration),
    ) {
        let length = received.length.min(buffer.len());
        let size = received.segment_size.clamp(1, length.max(1));
        let mut start = 0;
        while start < length {
            let end = length.min(start + size);
            let datagram = &buffer[start..end];
            if kind_untrusted(datagram) == Some(DATA) && datagram.len() >= MIN_DATA_SIZE {
                let mut run_end = end;
                while run_end < length && starts_alike(buffer, start, run_end, length.min(run_end + size)) {
                    run_end = length.min(run_end + size);
                }
                self.forward(udp, &mut buffer[start..run_end], size, received, now);
                start = run_end;
            } else {
                self.received_other(udp, datagram, &received.origin, other_port, now, judge);
                start = end;
            }
        }
    }

    /// Datagrams with one header, all of one sender: change it in place, and send them on as one.
    fn forward<U: Udp>(&mut self, udp: &U, run: &mut [u8], size: usize, received: &Received, now: u64) {
        let count = run.len().div_ceil(size) as u64;
        let Some((session_id, receiver)) = numbers_untrusted(run) else { return };
        let remote = received.origin.remote;
        let Some(session) = self.sessions.get_mut(session_id) else {
            self.counts.unknown_session += count;
            return notify(udp, session_id, UNKNOWN_SESSION, &[0; MAC_SIZE], &received.origin);
        };
        if session.origin.remote != remote {
            self.counts.other_address += count;
            return self.offer_cookie(udp, session_id, &received.origin, now);
        }
        if !self.shares.take(&mut session.account, run.len(), now) {
            self.counts.over_rate += count;
            return;
        }
        let sender = session.node;
        let to = self.sessions.of_node(&NodeAddress { id: receiver, ..sender });
        let Some(to) = to else {
            self.counts.no_receiver += count;
            return;
        };
        let header = data_header(to.id, sender.id);
        run.chunks_mut(size).for_each(|datagram| datagram[..DATA_HEADER_SIZE].copy_from_slice(&header));
        let sent = udp.send(run, size, to.origin.remote, Some(&to.origin), received.tos);
        let gone = sent.div_ceil(size) as u64;
        self.counts.forwarded += gone;
        self.counts.forwarded_octets += sent as u64;
        self.counts.unsent += count - gone.min(count);
    }

    fn received_other<U: Udp>(
        &mut self,
        udp: &U,
        datagram: &[u8],
        origin: &Origin,
        other_port: Option<u16>,
        now: u64,
        judge: &mut impl FnMut(Registration),
    ) {
        let remote = origin.remote;
        match (kind_untrusted(datagram), datagram.len()) {
            (Some(HELLO), HELLO_SIZE) => {
                let random = &datagram[4..4 + RANDOM_SIZE];
                let mut answer = [0; COOKIE_MESSAGE_SIZE];
                answer[..4].copy_from_slice(&header(COOKIE, 0));
                answer[4..20].copy_from_slice(random);
                answer[20..].copy_from_slice(&self.cookies.make(remote, random, now));
                udp.send(&answer, answer.len(), remote, Some(origin), 0);
            }
            (Some(REGISTER), REGISTER_SIZE) => {
                let (random, cookie) = (&datagram[4..20], &datagram[20..20 + MAC_SIZE]);
                // All that come through the relay's TLS side are of one address.
                let is_let_in = self.cookies.verify(remote, random, cookie, now)
                    && (remote.ip().is_loopback() || self.registers.allow(remote.ip(), now));
                if is_let_in {
                    judge((datagram.into(), *origin));
                } else {
                    self.counts.refused += 1;
                }
            }
            (Some(KEEPALIVE), KEEPALIVE_SIZE) => self.keep_alive(udp, datagram, origin, now),
            _ if stun::is_request_untrusted(datagram) => {
                let other =
                    origin.local.zip(other_port).map(|(address, port)| SocketAddr::new(address, port));
                if let Some(answer) = stun::answer(datagram, remote, other, &self.receipt_key) {
                    udp.send(answer.octets(), answer.octets().len(), remote, Some(origin), 0);
                }
            }
            _ => self.counts.other += 1,
        }
    }

    /// The session's node may be there now: let it prove that.
    fn offer_cookie<U: Udp>(&mut self, udp: &U, session_id: u64, origin: &Origin, now: u64) {
        let cookie = self.cookies.make(origin.remote, &moved(session_id), now);
        notify(udp, session_id, OTHER_ADDRESS, &cookie, origin);
    }

    fn keep_alive<U: Udp>(&mut self, udp: &U, datagram: &[u8], origin: &Origin, now: u64) {
        let Some((session_id, counter)) = numbers_untrusted(datagram) else { return };
        let Some(session) = self.sessions.get_mut(session_id) else {
            self.counts.unknown_session += 1;
            return notify(udp, session_id, UNKNOWN_SESSION, &[0; MAC_SIZE], origin);
        };
        let (signed, rest) = datagram.split_at(KEEPALIVE_SIGNED);
        // `verify_slice` compares in constant time.
        let is_proven = mac(&session.key, &[signed]).verify_slice(&rest[..MAC_SIZE]).is_ok();
        if !is_proven || counter <= session.counter {
            self.counts.refused += 1;
            return;
        }
        session.counter = counter;
        if session.origin.remote != origin.remote {
            let cookie = &signed[KEEPALIVE_SIGNED - MAC_SIZE..];
            if !self.cookies.verify(origin.remote, &moved(session_id), cookie, now) {
                self.counts.other_address += 1;
                return self.offer_cookie(udp, session_id, origin, now);
            }
        }
        session.origin = *origin;
        session.proven_at = now;
        let message = ack(session, if self.is_draining { DRAINING } else { 0 });
        udp.send(&message, message.len(), origin.remote, Some(origin), 0);
    }
}

/// Whether the datagrams at both places begin with the same header, and there is a message behind the second.
fn starts_alike(buffer: &[u8], one: usize, other: usize, other_end: usize) -> bool {
    other_end - other >= MIN_DATA_SIZE
        && buffer[one..one + DATA_HEADER_SIZE] == buffer[other..other + DATA_HEADER_SIZE]
}

/// What the cookie of a move is made of, in place of random octets.
fn moved(session: u64) -> [u8; RANDOM_SIZE] {
    let mut octets = *b"moved   moved   ";
    octets[8..].copy_from_slice(&session.to_be_bytes());
    octets
}

fn notify<U: Udp>(udp: &U, session: u64, reason: u8, cookie: &[u8; MAC_SIZE], to: &Origin) {
    let mut message = [0; NOTICE_SIZE];
    message[..4].copy_from_slice(&header(NOTICE, reason));
    message[4..12].copy_from_slice(&session.to_be_bytes());
    message[12..].copy_from_slice(cookie);
    udp.send(&message, message.len(), to.remote, Some(to), 0);
}

fn ack(session: &Session, flags: u8) -> [u8; ACK_SIZE] {
    let mut message = [0; ACK_SIZE];
    message[..4].copy_from_slice(&header(ACK, flags));
    message[4..12].copy_from_slice(&session.id.to_be_bytes());
    message[12..20].copy_from_slice(&session.counter.to_be_bytes());
    message[20..ACK_SIGNED].copy_from_slice(&observed(session.origin.remote));
    let tag = mac(&session.key, &[&message[..ACK_SIGNED]]).finalize().into_bytes();
    message[ACK_SIGNED..].copy_from_slice(&tag);
    message
}
