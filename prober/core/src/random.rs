//! Pseudorandom numbers from a seed, so that every schedule is repeatable.

/// The generator `splitmix64` (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
///
/// For jitter and simulations. Secrets come from the kernel's random numbers instead, as arguments.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The generator with this seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub const fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `0..bound`; 0 for a bound of 0.
    pub const fn below(&mut self, bound: u64) -> u64 {
        // The high half of the product: no division, and a bias of less than bound / 2^64.
        ((self.bits() as u128 * bound as u128) >> 64) as u64
    }

    /// True with a probability of this many millionths.
    pub const fn happens(&mut self, millionths: u32) -> bool {
        millionths > 0 && self.below(1_000_000) < millionths as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_is_the_published_one() {
        let mut random = Random::new(1_234_567);
        let first: Vec<u64> = (0..3).map(|_| random.bits()).collect();
        assert_eq!(
            first,
            [
                6_457_827_717_110_365_317,
                3_203_168_211_198_807_973,
                9_817_491_932_198_370_423
            ]
        );
    }

    #[test]
    fn numbers_stay_below_the_bound_and_use_its_whole_range() {
        let mut random = Random::new(7);
        let mut seen = [0_u32; 10];
        for _ in 0..10_000 {
            seen[usize::try_from(random.below(10)).unwrap()] += 1;
        }
        assert!(seen.iter().all(|&n| (800..1200).contains(&n)), "{seen:?}");
        assert_eq!(random.below(0), 0);
    }

    #[test]
    fn probability_zero_never_happens_and_one_always_does() {
        let mut random = Random::new(9);
        assert!((0..1000).all(|_| !random.happens(0)));
        assert!((0..1000).all(|_| random.happens(1_000_000)));
    }
}
