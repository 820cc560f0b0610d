//! Floods a UDP port at a set rate with given datagrams, from many source addresses.
//!
//!     udp-flood NETNS ADDRESS PORT FIRST_SOURCE SOURCES RATE SECONDS < DATAGRAMS
//!
//! NETNS is a path such as /proc/PID/ns/net; its host must own the SOURCES consecutive addresses from FIRST_SOURCE on
//! (a local route does). Each datagram on standard input follows its length, two octets, high one first. They are sent
//! over and over, RATE a second in all, each from another address than the last. One line of JSON says how many were
//! sent. Sending sleeps between bursts, and what it was kept from sending in a second it does not make up for.

use std::io::Read;
use std::mem::{size_of, zeroed};
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::ExitCode;
use std::str::FromStr;
use std::thread;
use std::time::{Duration, Instant};

use udp_load::socket;

const SENDS_A_CALL: usize = 64;
const TICK: Duration = Duration::from_micros(500);
const MOST_CATCH_UP: f64 = 1.0;
/// Coprime to any number of sources that is not a multiple of it: all of them have their turn, in no order.
const STEP: u64 = 7919;

/// Room for one IP_PKTINFO or IPV6_PKTINFO.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control([u8; 40]);

struct Flood {
    address: IpAddr,
    port: u16,
    first_source: IpAddr,
    sources: u64,
    rate: f64,
    seconds: f64,
}

fn parse<T: FromStr>(words: &[String], at: usize, name: &str) -> Result<T, String> {
    let word = words.get(at).ok_or_else(|| format!("{name} is missing"))?;
    word.parse().map_err(|_| format!("{name}: cannot make sense of {word:?}"))
}

fn read_datagrams(input: &mut impl Read) -> Result<Vec<Vec<u8>>, String> {
    let mut octets = Vec::new();
    input.read_to_end(&mut octets).map_err(|error| error.to_string())?;
    let (mut rest, mut datagrams) = (&octets[..], Vec::new());
    while let Some((length, behind)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes(*length));
        let (datagram, behind) = behind.split_at_checked(length).ok_or("the last datagram is cut short")?;
        datagrams.push(datagram.to_vec());
        rest = behind;
    }
    if datagrams.is_empty() { Err("there are no datagrams".into()) } else { Ok(datagrams) }
}

/// The control message that chooses the source, and its length.
fn source_control(first: IpAddr, number: u64) -> (Control, usize) {
    let mut control = Control([0; 40]);
    let (level, kind, data, address_at) = match first {
        IpAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_PKTINFO, size_of::<libc::in_pktinfo>(), 4),
        IpAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, size_of::<libc::in6_pktinfo>(), 0),
    };
    // SAFETY: both only compute; `CMSG_SPACE` of either is within the room.
    let (length, space) =
        unsafe { (libc::CMSG_LEN(data as u32) as usize, libc::CMSG_SPACE(data as u32) as usize) };
    // SAFETY: all zeroes is a cmsghdr.
    let mut header: libc::cmsghdr = unsafe { zeroed() };
    header.cmsg_len = length as _;
    header.cmsg_level = level;
    header.cmsg_type = kind;
    // SAFETY: the room is aligned and longer than a header.
    unsafe { control.0.as_mut_ptr().cast::<libc::cmsghdr>().write(header) };
    let place = &mut control.0[length - data + address_at..];
    match first {
        IpAddr::V4(first) => place[..4].copy_from_slice(&(u32::from(first) + number as u32).to_be_bytes()),
        // Each from a /64 of its own.
        IpAddr::V6(first) => {
            place[..16].copy_from_slice(&(u128::from(first) + (u128::from(number) << 64)).to_be_bytes());
        }
    }
    (control, space)
}

fn send(socket: &OwnedFd, flood: &Flood, datagrams: &mut [Vec<u8>]) -> String {
    let (mut name, name_length) = socket::name(flood.address, flood.port);
    let mut controls = [Control([0; 40]); SENDS_A_CALL];
    let mut vectors = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; SENDS_A_CALL];
    // SAFETY: all zeroes is a valid mmsghdr.
    let mut messages: [libc::mmsghdr; SENDS_A_CALL] = unsafe { zeroed() };
    let (mut sent, mut refused, mut offered, mut skipped) = (0u64, 0u64, 0u64, 0.0);
    let started = Instant::now();
    loop {
        let now = started.elapsed().as_secs_f64();
        if now >= flood.seconds {
            break;
        }
        let behind = now - skipped - offered as f64 / flood.rate;
        skipped += (behind - MOST_CATCH_UP).max(0.0);
        let due = (((now - skipped) * flood.rate) as u64).saturating_sub(offered);
        if due == 0 {
            thread::sleep(TICK);
            continue;
        }
        let count = SENDS_A_CALL.min(due as usize);
        for at in 0..count {
            let number = offered + at as u64;
            let datagram = &mut datagrams[(number % datagrams.len() as u64) as usize];
            vectors[at] = libc::iovec { iov_base: datagram.as_mut_ptr().cast(), iov_len: datagram.len() };
            let (control, length) = source_control(flood.first_source, number * STEP % flood.sources);
            controls[at] = control;
            let header = &mut messages[at].msg_hdr;
            header.msg_name = (&raw mut name).cast();
            header.msg_namelen = name_length;
            header.msg_iov = &raw mut vectors[at];
            header.msg_iovlen = 1;
            header.msg_control = controls[at].0.as_mut_ptr().cast();
            header.msg_controllen = length as _;
        }
        // SAFETY: each of the `count` messages points to a name, a vector, its datagram and a control message; all
        // outlive the call.
        let taken =
            unsafe { libc::sendmmsg(socket.as_raw_fd(), messages.as_mut_ptr(), count as libc::c_uint, 0) };
        let done = if taken > 0 { taken as u64 } else { 1 };
        *if taken > 0 { &mut sent } else { &mut refused } += done;
        offered += done;
    }
    format!(
        "{{\"sent\": {sent}, \"refused\": {refused}, \"seconds\": {:.6}}}",
        started.elapsed().as_secs_f64()
    )
}

fn run(words: &[String]) -> Result<String, String> {
    let flood = Flood {
        address: parse(words, 1, "ADDRESS")?,
        port: parse(words, 2, "PORT")?,
        first_source: parse(words, 3, "FIRST_SOURCE")?,
        sources: parse(words, 4, "SOURCES")?,
        rate: parse(words, 5, "RATE")?,
        seconds: parse(words, 6, "SECONDS")?,
    };
    if flood.sources == 0
        || flood.sources % STEP == 0
        || flood.address.is_ipv4() != flood.first_source.is_ipv4()
    {
        return Err(format!(
            "SOURCES is no multiple of {STEP}, and ADDRESS and FIRST_SOURCE are of one family"
        ));
    }
    let mut datagrams = read_datagrams(&mut std::io::stdin())?;
    let socket = socket::enter(&words[0]).and_then(|()| socket::sender(flood.address, 0, 1));
    Ok(send(&socket.map_err(|error| format!("{}: {error}", words[0]))?, &flood, &mut datagrams))
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match run(&words) {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("udp-flood: {error}");
            ExitCode::FAILURE
        }
    }
}
