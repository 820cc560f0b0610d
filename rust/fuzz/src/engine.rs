//! The native engine between ends in memory: whatever arrives and whatever the host sends.

use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use wgpy_dataplane::engine::{Clock, Engine, Event, NewSession, Origin, Outbox, Received, Signal, Tun, Udp};
use wgpy_dataplane::inner::source_untrusted;
use wgpy_dataplane::keypair::{Established, Keypair};
use wgpy_dataplane::message::{HEADER_SIZE, TAG_SIZE, write_header};

use crate::input::Input;
use crate::packets::split;

const SECOND: u64 = 1_000_000_000;
const CHAINING_KEY: [u8; 32] = [3; 32];
const THEIRS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 0));
const STAGED_OCTETS: usize = 1 << 16;

#[derive(Default)]
struct World {
    now: AtomicU64,
    sent: AtomicU64,
    written: Mutex<Vec<Vec<u8>>>,
}

#[derive(Clone)]
struct End(Arc<World>);

impl Clock for End {
    fn now(&self) -> u64 {
        self.0.now.load(Ordering::Relaxed)
    }
}

impl Udp for End {
    fn send(&self, run: &[u8], segment_size: usize, _: SocketAddr, _: Option<&Origin>, _: u8) -> usize {
        assert!(!run.is_empty() && segment_size > 0 && run.len() <= 65_507);
        assert!(run.chunks(segment_size).all(|datagram| datagram.len() >= 32), "no message is shorter");
        self.0.sent.fetch_add(run.chunks(segment_size).count() as u64, Ordering::Relaxed);
        run.len()
    }
}

impl Tun for End {
    fn write(&self, parts: &[IoSlice<'_>]) -> io::Result<()> {
        self.0.written.lock().unwrap().push(parts.iter().flat_map(|part| part.to_vec()).collect());
        Ok(())
    }
}

impl Signal for End {
    fn raise(&self) {}
    fn clear(&self) {}
}

struct Bench {
    world: Arc<World>,
    engine: Engine<End, End, End>,
    far: Keypair,
    index: u32,
    counter: u64,
}

impl Bench {
    fn new() -> Self {
        let world = Arc::new(World::default());
        world.now.store(1000 * SECOND, Ordering::Relaxed);
        let end = End(world.clone());
        let engine = Engine::new(end.clone(), Box::new(end.clone()), STAGED_OCTETS);
        engine.set_udp(end.clone(), 51820, 64);
        engine.set_identity(Some((&[1; 32], &[2; 32])));
        {
            let mut tables = engine.write();
            tables.tun = Some(end);
            tables.vnet_hdr = true;
        }
        let peer = engine.add_peer().unwrap();
        engine.add_allowed_ips(peer, &[(THEIRS, 24)]);
        engine.set_endpoint(peer, Some(origin(0).remote));
        let index = engine.reserve_index(peer).unwrap();
        let established = |local_index, remote_index, is_initiator, peer| Established {
            local_index,
            remote_index,
            is_initiator,
            peer,
            created_at: 1000 * SECOND,
        };
        let ours = established(index, !index, true, peer);
        engine.begin_session(NewSession { established: ours, chaining_key: &CHAINING_KEY, response: None });
        let far = Keypair::new(&CHAINING_KEY, established(!index, index, false, 0));
        Self { world, engine, far, index, counter: 0 }
    }

    fn seal(&mut self, packet: &[u8]) -> Vec<u8> {
        let mut message = vec![0; HEADER_SIZE + packet.len() + TAG_SIZE];
        write_header(&mut message, self.index, self.counter);
        message[HEADER_SIZE..HEADER_SIZE + packet.len()].copy_from_slice(packet);
        let size = message.len();
        assert!(self.far.seal_run(self.counter, &mut message, size));
        self.counter += 1;
        message
    }

    fn arrives(&self, datagrams: &mut [u8], segment_size: usize, number: u8, tos: u8) {
        let received = Received { length: datagrams.len(), segment_size, origin: origin(number), tos };
        self.engine.received(self.engine.read(), datagrams, &received);
    }

    /// What came out is from the peer's addresses, whole, and a superpacket splits.
    fn check_written(&self) {
        for octets in std::mem::take(&mut *self.world.written.lock().unwrap()) {
            let segments = split(&octets);
            assert!(!segments.is_empty(), "what is written contradicts its header");
            for segment in segments {
                let Some(IpAddr::V4(source)) = source_untrusted(&segment) else {
                    panic!("not from the peer")
                };
                assert_eq!(source.octets()[..3], [10, 0, 0], "not from the peer");
            }
        }
    }
}

fn origin(number: u8) -> Origin {
    Origin {
        remote: ([198, 51, 100, number], 51820).into(),
        local: Some([192, 0, 2, 1].into()),
        interface_index: 2,
    }
}

/// Datagrams of strangers, and of a peer that seals whatever it likes.
pub fn engine(data: &[u8]) {
    let mut input = Input(data);
    let mut bench = Bench::new();
    while !input.is_empty() {
        let (what, length) = (input.octet(), usize::from(input.number() % 2048));
        let octets = input.octets(length);
        match what % 6 {
            0 => bench.arrives(&mut octets.to_vec(), usize::from(input.number()), what, 0),
            // Data, for our index, that opens.
            1 => {
                let mut message = bench.seal(octets);
                let size = message.len();
                bench.arrives(&mut message, size, what & 8, input.octet());
            }
            // Several in one receive, of which a stranger's octets may be one.
            2 => {
                let count = usize::from(what >> 4) + 1;
                let sealed: Vec<Vec<u8>> = (0..count).map(|_| bench.seal(octets)).collect();
                let size = sealed[0].len();
                let mut datagrams = sealed.concat();
                let place = usize::from(input.number()) % datagrams.len();
                datagrams[place] ^= input.octet();
                bench.arrives(&mut datagrams, size, 0, what);
            }
            // With our index and any octets.
            3 => {
                let mut message = octets.to_vec();
                message.resize(message.len().max(HEADER_SIZE), 0);
                write_header(&mut message, bench.index, u64::from(input.number()));
                let size = message.len();
                bench.arrives(&mut message, size, what, 0);
            }
            4 => {
                bench.world.now.fetch_add(u64::from(input.octet()) * SECOND / 16, Ordering::Relaxed);
            }
            _ => {
                for event in bench.engine.events.drain() {
                    assert!(!matches!(event, Event::EngineFailed(_)));
                }
            }
        }
        bench.check_written();
        assert!(bench.engine.events.handshake_depth() <= 4096);
    }
}

/// Packets of the host, with virtio headers that say whatever they like.
pub fn host_packets(data: &[u8]) {
    let mut input = Input(data);
    let bench = Bench::new();
    let mut outbox = Outbox::new();
    while !input.is_empty() {
        let (mut buffer, mut spans) = (Vec::new(), Vec::new());
        for _ in 0..=input.octet() % 8 {
            let (kind, length) = (input.octet(), usize::from(input.number() % 4096));
            let start = buffer.len();
            buffer.extend_from_slice(input.octets(length));
            // Mostly to the peer, or its way ends at once.
            if let Some(packet) =
                buffer.get_mut(start + 10..).filter(|packet| packet.len() >= 40 && kind & 3 > 0)
            {
                packet[0] = 0x45 | packet[0] & 0xf;
                packet[16..19].copy_from_slice(&[10, 0, 0]);
            }
            spans.push(start..buffer.len());
        }
        let before = bench.world.sent.load(Ordering::Relaxed);
        bench.engine.host_sent(&bench.engine.read(), &buffer, &spans, &mut outbox);
        let sent = bench.world.sent.load(Ordering::Relaxed) - before;
        assert!(sent <= 1024 * spans.len() as u64);
        bench.world.written.lock().unwrap().clear();
    }
}
