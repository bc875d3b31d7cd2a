//! Arbitrary packets and segments for property tests.

use std::net::{IpAddr, SocketAddr};

use proptest::prelude::*;

use super::*;

pub(crate) fn mac() -> impl Strategy<Value = Mac> {
    any::<[u8; 6]>().prop_map(Mac)
}

/// Two addresses of one family.
pub(crate) fn addresses() -> impl Strategy<Value = (IpAddr, IpAddr)> {
    prop_oneof![
        any::<([u8; 4], [u8; 4])>().prop_map(|(a, b)| (a.into(), b.into())),
        any::<([u8; 16], [u8; 16])>().prop_map(|(a, b)| (a.into(), b.into())),
    ]
}

pub(crate) fn tcp_options() -> impl Strategy<Value = TcpOptions> {
    (
        any::<Option<u16>>(),
        any::<Option<u8>>(),
        any::<bool>(),
        any::<Option<(u32, u32)>>(),
    )
        .prop_map(
            |(mss, window_scale, sack_permitted, timestamps)| TcpOptions {
                mss,
                window_scale,
                sack_permitted,
                timestamps,
            },
        )
}

pub(crate) fn segment() -> impl Strategy<Value = Segment> {
    (
        (addresses(), any::<(u16, u16)>()),
        any::<(u8, u16, u32, u32)>(),
        any::<(u8, u16)>(),
        tcp_options(),
        prop::collection::vec(any::<u8>(), 0..40),
    )
        .prop_map(
            |(
                ((src, dst), (src_port, dst_port)),
                (hop_limit, ident, seq, ack),
                (flags, window),
                options,
                payload,
            )| {
                Segment {
                    src: SocketAddr::new(src, src_port),
                    dst: SocketAddr::new(dst, dst_port),
                    hop_limit,
                    ident,
                    seq: Seq(seq),
                    ack: Seq(ack),
                    flags: TcpFlags(flags),
                    window,
                    options,
                    payload,
                }
            },
        )
}
