//! Initial sequence numbers that only a real answer can know.

use std::fmt;
use std::hash::Hasher;
use std::net::{IpAddr, SocketAddr};

use siphasher::sip::SipHasher13;

use crate::packet::Seq;

/// Makes each probe's initial sequence number: SipHash-1-3 under a secret key over the addresses,
/// the ports and a number that never repeats (compare RFC 6528 section 3).
///
/// An answer acknowledges it; so a packet left over from an earlier probe of the same five-tuple,
/// or a forged one, passes for an answer once in four thousand million times.
#[derive(Clone)]
pub struct IsnGenerator {
    keyed: SipHasher13,
}

impl fmt::Debug for IsnGenerator {
    /// Never shows the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IsnGenerator").finish_non_exhaustive()
    }
}

impl IsnGenerator {
    /// IsnGenerator under this key, which should come from the kernel's random numbers.
    pub fn new(key: [u8; 16]) -> Self {
        Self {
            keyed: SipHasher13::new_with_key(&key),
        }
    }

    /// The initial sequence number of the `nth` handshake, from `src` to `dst`.
    pub fn isn(&self, src: SocketAddr, dst: SocketAddr, nth: u64) -> Seq {
        let mut hasher = self.keyed;
        for end in [src, dst] {
            match end.ip() {
                IpAddr::V4(ip) => hasher.write(&ip.octets()),
                IpAddr::V6(ip) => hasher.write(&ip.octets()),
            }
            hasher.write_u16(end.port());
        }
        hasher.write_u64(nth);
        let hash = hasher.finish();
        Seq((hash >> 32) as u32)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn end(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_same_handshake_has_the_same_number_and_every_other_another() {
        let cookies = IsnGenerator::new([7; 16]);
        let (a, b) = (end("100.96.1.10:40000"), end("100.67.30.133:80"));
        assert_eq!(cookies.isn(a, b, 1), cookies.isn(a, b, 1));
        let all: BTreeSet<u32> = [
            cookies.isn(a, b, 1),
            cookies.isn(a, b, 2),
            cookies.isn(b, a, 1),
            cookies.isn(end("100.96.1.10:40001"), b, 1),
            cookies.isn(end("[fd00::1]:40000"), end("[fd00::2]:80"), 1),
            IsnGenerator::new([8; 16]).isn(a, b, 1),
        ]
        .iter()
        .map(|seq| seq.0)
        .collect();
        assert_eq!(all.len(), 6);
    }

    #[test]
    fn the_key_is_not_shown() {
        assert_eq!(
            format!("{:?}", IsnGenerator::new([7; 16])),
            "IsnGenerator { .. }"
        );
    }
}
