//! Seals with a key that valgrind takes for undefined: it then reports each branch and each index that depends on the
//! key or the plaintext. `make constant-time` runs it. Valgrind knows AVX2, not AVX-512.

#[cfg(target_arch = "x86_64")]
fn main() {
    use std::arch::asm;
    use wgpy_aead::{ChaCha20Poly1305, Kernel, Message};

    /// valgrind/memcheck.h: MAKE_MEM_UNDEFINED, and MAKE_MEM_DEFINED for what may be looked at in the end.
    const UNDEFINED: u64 = 0x4d43_0001;
    const DEFINED: u64 = 0x4d43_0002;
    /// valgrind/valgrind.h: is there a valgrind?
    const RUNNING: u64 = 0x1001;

    fn ask(request: u64, octets: &[u8]) -> u64 {
        let arguments = [request, octets.as_ptr() as u64, octets.len() as u64, 0, 0, 0];
        let mut answer = 0_u64;
        // SAFETY: rotations that cancel and an exchange of a register with itself: nothing, but for valgrind.
        unsafe {
            asm!(
                "rol rdi, 3", "rol rdi, 13", "rol rdi, 61", "rol rdi, 51", "xchg rbx, rbx",
                inout("rdx") answer, in("rax") arguments.as_ptr(), inout("rdi") 0_u64 => _,
            );
        }
        answer
    }

    assert_eq!(ask(RUNNING, &[]), 1, "run it under valgrind");
    let kernel = Kernel::Avx2;
    assert!(kernel.is_available(), "this machine has no AVX2");
    let key = [7; 32];
    ask(UNDEFINED, &key);
    let cipher = ChaCha20Poly1305::with_kernel(&key, kernel);
    for length in [0, 1, 15, 16, 63, 64, 65, 300, 1424] {
        for count in [1, 4, 5, 16] {
            let mut texts = vec![vec![3; length]; count];
            texts.iter().for_each(|text| _ = ask(UNDEFINED, text));
            let mut messages: Vec<_> =
                texts.iter_mut().zip(1..).map(|(text, counter)| Message::to_seal(counter, text)).collect();
            cipher.seal_batch(&mut messages);
            for message in &messages {
                ask(DEFINED, &message.tag);
            }
        }
    }
    println!("sealed");
}

#[cfg(not(target_arch = "x86_64"))]
fn main() {
    panic!("valgrind's requests are written for x86-64 here");
}
