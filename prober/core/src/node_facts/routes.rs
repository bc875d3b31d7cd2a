//! Routes, and the policy rules that choose the table in which one is looked up (ip-route(8), ip-rule(8)).

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::packet::family::Family;

/// The effect of a route on matching packets (`RTN_*`, include/uapi/linux/rtnetlink.h).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RouteKind {
    /// They are forwarded.
    #[default]
    Unicast,
    /// They are delivered to this host. Table `local` is not read; such a route elsewhere intercepts packets (TPROXY).
    Local,
    /// They are dropped without an ICMP error and without a counter.
    Blackhole,
    /// They are refused: host unreachable (ICMP 3/1).
    Unreachable,
    /// They are refused: prohibited (ICMP 3/13).
    Prohibit,
    /// The lookup continues with the next rule.
    Throw,
    /// Another type, by its number.
    Other(u8),
}

/// How far a destination is (`RT_SCOPE_*`, include/uapi/linux/rtnetlink.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RouteScope {
    /// Anywhere, through a router. All routes of IPv6 have this scope.
    Universe,
    /// On the same link.
    Link,
    /// On this host.
    Host,
    /// Another scope, by its number.
    Other(u8),
}

/// A route. One with several next hops is listed once for each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// The destination; prefix length 0 is the default route.
    pub destination: IpNet,
    /// IPv6: the source addresses of the packets that it is for; `None` for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<IpNet>,
    /// Its effect on packets.
    pub kind: RouteKind,
    /// How far the destination is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<RouteScope>,
    /// The next router.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    /// The interface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dev: Option<String>,
    /// The source address that this host uses for packets of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferred_source: Option<IpAddr>,
    /// The largest packet that the route takes, in bytes, where it is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// The next hop of a route with several: its share, relative to the weights of the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u16>,
    /// The kernel does not use this next hop: its interface is down (`RTNH_F_DEAD`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_dead: bool,
    /// The routing table; 254 is `main`.
    pub table: u32,
    /// The route with the lowest metric of equal prefixes is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<u32>,
    /// What wrote it (`RTPROT_*`, include/uapi/linux/rtnetlink.h).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<u8>,
}

impl Route {
    /// The number of table `default` (`RT_TABLE_DEFAULT`), which is empty unless an administrator fills it.
    pub const DEFAULT: u32 = 253;
    /// The number of table `main` (`RT_TABLE_MAIN`).
    pub const MAIN: u32 = 254;
    /// The number of table `local` (`RT_TABLE_LOCAL`), of the kernel's own addresses.
    pub const LOCAL: u32 = 255;

    /// A route of table `main` that forwards packets, with nothing else set.
    pub fn main(destination: IpNet) -> Self {
        Self {
            destination,
            source: None,
            kind: RouteKind::Unicast,
            scope: None,
            gateway: None,
            dev: None,
            preferred_source: None,
            mtu: None,
            weight: None,
            is_dead: false,
            table: Self::MAIN,
            metric: None,
            protocol: None,
        }
    }
}

/// The effect of a policy rule on matching packets (`FR_ACT_*`, include/uapi/linux/fib_rules.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RuleAction {
    /// The route is looked up in this table.
    Table(u32),
    /// The route is looked up in the table of the VRF of the packet's interface (`l3mdev`).
    Vrf,
    /// The lookup continues with the rule of this priority.
    Goto(u32),
    /// The lookup continues with the next rule.
    Nop,
    /// The packet is dropped.
    Blackhole,
    /// The packet is refused: network unreachable (ICMP 3/0).
    Unreachable,
    /// The packet is refused: prohibited (ICMP 3/13).
    Prohibit,
    /// Another action, by its number; the kernel drops the packet.
    Other(u8),
}

/// The mark of packets that a rule matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fwmark {
    /// The value of the compared bits.
    pub value: u32,
    /// The bits that are compared.
    pub mask: u32,
}

/// A policy rule (`RTM_GETRULE`). A condition that is `None` matches all packets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// The family of its packets.
    pub family: Family,
    /// Rules are tried in this order, lowest first.
    pub priority: u32,
    /// The source address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<IpNet>,
    /// The destination address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<IpNet>,
    /// The interface on which the packet arrived; `lo` for packets of this host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
    /// The interface to which the sending socket is bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// The mark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mark: Option<Fwmark>,
    /// It matches the packets that its conditions do not match (`not`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_inverted: bool,
    /// It has a condition that is not read: of a user, a port, a protocol, a type of service or a tunnel.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub has_other_conditions: bool,
    /// Routes with a prefix of at most this length are not used (`suppress_prefixlength`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suppress_prefix_length: Option<u32>,
    /// Its effect.
    pub action: RuleAction,
}

impl Rule {
    /// A rule of this priority that looks up all packets in a table.
    pub const fn lookup(family: Family, priority: u32, table: u32) -> Self {
        Self {
            family,
            priority,
            from: None,
            to: None,
            input: None,
            output: None,
            mark: None,
            is_inverted: false,
            has_other_conditions: false,
            suppress_prefix_length: None,
            action: RuleAction::Table(table),
        }
    }

    /// The rules of a new network namespace: table `local`, then `main`, then for IPv4 `default`
    /// (`fib_default_rules_init`, net/ipv4/fib_rules.c; `fib6_rules_net_init`, net/ipv6/fib6_rules.c).
    pub fn defaults(family: Family) -> &'static [Self] {
        static IPV4: [Rule; 3] = [
            Rule::lookup(Family::Ipv4, 0, Route::LOCAL),
            Rule::lookup(Family::Ipv4, 32_766, Route::MAIN),
            Rule::lookup(Family::Ipv4, 32_767, Route::DEFAULT),
        ];
        static IPV6: [Rule; 2] = [
            Rule::lookup(Family::Ipv6, 0, Route::LOCAL),
            Rule::lookup(Family::Ipv6, 32_766, Route::MAIN),
        ];
        match family {
            Family::Ipv4 => &IPV4,
            Family::Ipv6 => &IPV6,
        }
    }
}
