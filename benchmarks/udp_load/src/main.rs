//! Sends UDP datagrams at a set rate from one network namespace to another and counts what arrives.
//!
//!     udp-load FROM_NETNS TO_NETNS ADDRESS SIZE RATE SECONDS SEGMENTS SPREAD
//!
//! The namespaces are paths such as /proc/PID/ns/net. SIZE is the payload of a datagram, RATE datagrams a second,
//! SEGMENTS how many the sender gives to the kernel in one piece (UDP_SEGMENT; 1: each on its own), SPREAD the number
//! of consecutive addresses, from ADDRESS on, that take turns. One line of JSON says what was sent and received.
//! Sending sleeps between bursts: a sender that spins would take a core from what is measured.

mod receive;
mod send;

use std::net::IpAddr;
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::thread;

use udp_load::socket;

const PORT: u16 = 5203;

/// What both threads know of a trial.
pub struct Trial {
    pub address: IpAddr,
    pub size: usize,
    pub rate: f64,
    pub seconds: f64,
    pub segments: usize,
    pub spread: u32,
    pub sent: AtomicU64,
    pub is_over: AtomicBool,
}

fn parse<T: FromStr>(words: &[String], at: usize, name: &str) -> Result<T, String> {
    let word = words.get(at).ok_or_else(|| format!("{name} is missing"))?;
    word.parse().map_err(|_| format!("{name}: cannot make sense of {word:?}"))
}

fn run(words: &[String]) -> Result<String, String> {
    let trial = Arc::new(Trial {
        address: parse(words, 2, "ADDRESS")?,
        size: parse(words, 3, "SIZE")?,
        rate: parse(words, 4, "RATE")?,
        seconds: parse(words, 5, "SECONDS")?,
        segments: parse(words, 6, "SEGMENTS")?,
        spread: parse(words, 7, "SPREAD")?,
        sent: AtomicU64::new(0),
        is_over: AtomicBool::new(false),
    });
    let largest = socket::LARGEST_SEND / trial.size.max(1);
    if trial.size < send::SEQUENCE_SIZE
        || trial.segments == 0
        || trial.segments > largest
        || trial.spread == 0
    {
        return Err(format!(
            "SIZE is at least {}, SIZE × SEGMENTS at most {}, SPREAD at least 1",
            send::SEQUENCE_SIZE,
            socket::LARGEST_SEND
        ));
    }
    // A socket stays in the namespace it was made in.
    let receiving =
        socket::enter(&words[1]).and_then(|()| socket::receiver(trial.address, PORT, trial.segments));
    let receiving = receiving.map_err(|error| format!("{}: {error}", words[1]))?;
    let sending = socket::enter(&words[0])
        .and_then(|()| socket::sender(trial.address, trial.size, trial.segments))
        .and_then(|socket| {
            // Unless several addresses take turns.
            if trial.spread == 1 {
                socket::connect(&socket, trial.address, PORT)?;
            }
            Ok(socket)
        });
    let sending = sending.map_err(|error| format!("{}: {error}", words[0]))?;
    let receiver = {
        let trial = Arc::clone(&trial);
        thread::spawn(move || receive::run(&receiving, &trial))
    };
    let sent = send::run(&sending, &trial, PORT);
    let received = receiver.join().map_err(|_| "the receiver failed".to_owned())?;
    let drain = received.last.saturating_duration_since(sent.end).as_secs_f64();
    Ok(format!(
        "{{\"sent\": {}, \"refused\": {}, \"seconds\": {:.6}, \"received\": {}, \"reordered\": {}, \"drain\": {drain:.6}}}",
        sent.datagrams, sent.refused, sent.seconds, received.datagrams, received.reordered
    ))
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match run(&words) {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("udp-load: {error}");
            ExitCode::FAILURE
        }
    }
}
