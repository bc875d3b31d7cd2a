//! Compares the addresses that an agent announces of itself to those that the API server has of its pod.

use std::net::IpAddr;

/// Returns the addresses of an agent's pod: its `status.podIPs`, whatever the agent has `announced`; and a sentence if the agent
/// does not have one of these. A pod may have further addresses, of secondary networks.
///
/// If the API server has no address of the pod yet, the announced ones are returned.
pub(super) fn addresses_of(
    announced: &[IpAddr],
    pod_ips: &[IpAddr],
) -> (Vec<IpAddr>, Option<String>) {
    if pod_ips.is_empty() {
        return (announced.to_vec(), None);
    }
    let missing: Vec<&IpAddr> = pod_ips
        .iter()
        .filter(|ip| !announced.contains(ip))
        .collect();
    let notice = (!missing.is_empty()).then(|| {
        format!(
            "it announces {}, and its pod has {} (status.podIPs): the addresses of the pod are used",
            list(announced.iter()),
            list(pod_ips.iter())
        )
    });
    (pod_ips.to_vec(), notice)
}

fn list<'a>(addresses: impl Iterator<Item = &'a IpAddr>) -> String {
    let names: Vec<String> = addresses.map(ToString::to_string).collect();
    if names.is_empty() {
        return "no address".to_owned();
    }
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_addresses_of_the_pod_count_whatever_the_agent_announces() {
        let ips = |texts: &[&str]| -> Vec<IpAddr> {
            texts.iter().map(|text| text.parse().unwrap()).collect()
        };
        let (pod, other) = (ips(&["10.244.1.5", "fd00::5"]), ips(&["10.96.0.1"]));
        for (announced, pod_ips, believed, has_notice) in [
            (&pod, &pod, &pod, false),
            (&[pod.clone(), other.clone()].concat(), &pod, &pod, false),
            (&other, &pod, &pod, true),
            (&ips(&[]), &pod, &pod, true),
            (&other, &ips(&[]), &other, false),
        ] {
            let (addresses, notice) = addresses_of(announced, pod_ips);
            assert_eq!(&addresses, believed);
            assert_eq!(notice.is_some(), has_notice, "{notice:?}");
        }
    }
}
