//! Parsing of single words of a packet text.

use std::net::IpAddr;

use super::FLAG_LETTERS;
use crate::packet::{IcmpKind, TcpFlags, TcpOptions, Unreachable};
use crate::time::Timestamp;

/// `0x1f` or `31`.
pub(super) fn number_of(word: &str) -> Option<u32> {
    match word.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => word.parse().ok(),
    }
}

/// `1018.25`: milliseconds with at most six decimals.
pub(super) fn milliseconds(word: &str) -> Option<Timestamp> {
    let (whole, part) = word.split_once('.').unwrap_or((word, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(part) || part.len() > 6 {
        return None;
    }
    let whole: u64 = whole.parse().ok()?;
    let part: u64 = format!("{part:0<6}").parse().ok()?;
    let nanos = whole.checked_mul(1_000_000)?.checked_add(part)?;
    Some(Timestamp::from_nanos(nanos))
}

/// `[S.]`.
pub(super) fn flags(word: &str) -> Option<TcpFlags> {
    let letters = word.strip_prefix('[')?.strip_suffix(']')?;
    let mut flags = TcpFlags(0);
    for letter in letters.chars() {
        let bit = FLAG_LETTERS.chars().position(|known| known == letter)?;
        flags = flags.with(TcpFlags(1 << bit));
    }
    Some(flags)
}

/// `mss=1460,sackOK,TS=1/0,wscale=7`.
pub(super) fn options(word: &str) -> Option<TcpOptions> {
    let mut options = TcpOptions::default();
    for part in word.split(',') {
        match part.split_once('=').unwrap_or((part, "")) {
            ("mss", value) => options.mss = Some(value.parse().ok()?),
            ("wscale", value) => options.window_scale = Some(value.parse().ok()?),
            ("sackOK", "") => options.sack_permitted = true,
            ("TS", value) => {
                let (value, echo) = value.split_once('/')?;
                options.timestamps = Some((value.parse().ok()?, echo.parse().ok()?));
            }
            _ => return None,
        }
    }
    Some(options)
}

/// `(11/0)`.
pub(super) fn type_code(word: &str) -> Option<(u8, u8)> {
    let inner = word.strip_prefix('(')?.strip_suffix(')')?;
    let (icmp_type, code) = inner.split_once('/')?;
    Some((icmp_type.parse().ok()?, code.parse().ok()?))
}

/// The usual type and code of this kind of message.
pub(super) const fn usual_type_code(kind: IcmpKind, address: IpAddr) -> (u8, u8) {
    let (v4, v6) = match kind {
        IcmpKind::Unreachable { reason } => match reason {
            Unreachable::Network => ((3, 0), (1, 0)),
            Unreachable::Host => ((3, 1), (1, 3)),
            Unreachable::Port => ((3, 3), (1, 4)),
            Unreachable::Prohibited => ((3, 13), (1, 1)),
            Unreachable::Other => ((3, 2), (1, 2)),
        },
        IcmpKind::TimeExceeded => ((11, 0), (3, 0)),
        IcmpKind::PacketTooBig { .. } => ((3, 4), (2, 0)),
        IcmpKind::Redirect { .. } => ((5, 1), (137, 0)),
        IcmpKind::Other => ((8, 0), (128, 0)),
    };
    match address {
        IpAddr::V4(_) => v4,
        IpAddr::V6(_) => v6,
    }
}
