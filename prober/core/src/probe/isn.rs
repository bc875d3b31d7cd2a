//! Initial sequence numbers under a secret key: only an answer to the SYN can acknowledge them.

use std::fmt;
use std::hash::Hasher;
use std::net::{IpAddr, SocketAddr};

use siphasher::sip::SipHasher13;

use crate::packet::Seq;

/// Makes each probe's initial sequence number: SipHash-1-3 under a secret key over the addresses,
/// the ports and a number that never repeats (compare RFC 6528 section 3).
///
/// An answer acknowledges this number. A forged packet, or one of an earlier probe with the same five-tuple, has the
/// right number with a probability of 1 in 2^32.
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
    /// A generator with this secret key, which must come from the kernel's random numbers.
    pub fn new(key: [u8; 16]) -> Self {
        Self {
            keyed: SipHasher13::new_with_key(&key),
        }
    }

    /// The initial sequence number of the `nth` handshake of the agent, from `src` to `dst`.
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
    fn every_handshake_has_its_own_number() {
        let generator = IsnGenerator::new([7; 16]);
        let (a, b) = (end("100.96.1.10:40000"), end("100.67.30.133:80"));
        assert_eq!(generator.isn(a, b, 1), generator.isn(a, b, 1));
        let all: BTreeSet<u32> = [
            generator.isn(a, b, 1),
            generator.isn(a, b, 2),
            generator.isn(b, a, 1),
            generator.isn(end("100.96.1.10:40001"), b, 1),
            generator.isn(end("[fd00::1]:40000"), end("[fd00::2]:80"), 1),
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
