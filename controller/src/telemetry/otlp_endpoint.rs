//! Where telemetry is sent, from OpenTelemetry's standard environment variables.
//!
//! The variable of the signal (`OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`) precedes the general one
//! (`OTEL_EXPORTER_OTLP_ENDPOINT`). `OTEL_SDK_DISABLED=true` disables both signals, `OTEL_TRACES_EXPORTER=none` one of
//! them. The library that sends reads headers, compression and timeout.

use std::path::PathBuf;

use thiserror::Error;

/// The signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Spans.
    Traces,
    /// Metrics.
    Metrics,
}

/// The OTLP protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// `grpc`.
    Grpc,
    /// `http/protobuf`, the default of OpenTelemetry's specification.
    Http,
}

/// The endpoint of one signal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtlpEndpoint {
    /// The signal.
    pub signal: Signal,
    /// The protocol.
    pub protocol: Protocol,
    /// The URL; for HTTP with its path.
    pub endpoint: String,
    /// The certificate authority of the server, a PEM file; `None` is the system's.
    pub authority: Option<PathBuf>,
    /// The client certificate.
    pub identity: Option<ClientIdentity>,
}

/// A client certificate, in PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientIdentity {
    /// The certificate chain.
    pub certificate: PathBuf,
    /// The key of its first certificate.
    pub key: PathBuf,
}

/// The environment variables are invalid.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum OtlpEndpointError {
    /// The protocol is not supported.
    #[error("OTEL_EXPORTER_OTLP_PROTOCOL says '{0}': prober speaks grpc and http/protobuf")]
    Protocol(String),
    /// A certificate without its key, or a key without its certificate.
    #[error(
        "a client certificate needs its key: set both OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and OTEL_EXPORTER_OTLP_CLIENT_KEY"
    )]
    Identity,
}

impl Signal {
    const fn in_variables(self) -> &'static str {
        match self {
            Self::Traces => "TRACES",
            Self::Metrics => "METRICS",
        }
    }

    const fn path(self) -> &'static str {
        match self {
            Self::Traces => "/v1/traces",
            Self::Metrics => "/v1/metrics",
        }
    }
}

impl OtlpEndpoint {
    /// Reads the variables through `lookup`; `None` where no endpoint is set, or the signal is disabled.
    pub fn read(
        signal: Signal,
        lookup: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>, OtlpEndpointError> {
        let variable = |name: &str| lookup(name).filter(|value| !value.is_empty());
        let own = |what: &str| {
            variable(&format!(
                "OTEL_EXPORTER_OTLP_{}_{what}",
                signal.in_variables()
            ))
        };
        let either =
            |what: &str| own(what).or_else(|| variable(&format!("OTEL_EXPORTER_OTLP_{what}")));
        let is_true = |value: String| value.eq_ignore_ascii_case("true");
        let exporter = variable(&format!("OTEL_{}_EXPORTER", signal.in_variables()));
        if variable("OTEL_SDK_DISABLED").is_some_and(is_true)
            || exporter.is_some_and(|exporter| exporter == "none")
            || either("ENDPOINT").is_none()
        {
            return Ok(None);
        }
        let protocol = match either("PROTOCOL").as_deref() {
            Some("grpc") => Protocol::Grpc,
            Some("http/protobuf") | None => Protocol::Http,
            Some(other) => return Err(OtlpEndpointError::Protocol(other.to_owned())),
        };
        let shared = || {
            let base = variable("OTEL_EXPORTER_OTLP_ENDPOINT")?;
            Some(match protocol {
                Protocol::Grpc => base,
                Protocol::Http => format!("{}{}", base.trim_end_matches('/'), signal.path()),
            })
        };
        let Some(endpoint) = own("ENDPOINT").or_else(shared) else {
            return Ok(None);
        };
        let endpoint = if endpoint.contains("://") {
            endpoint
        } else if either("INSECURE").is_some_and(is_true) {
            format!("http://{endpoint}")
        } else {
            format!("https://{endpoint}")
        };
        let identity = match (either("CLIENT_CERTIFICATE"), either("CLIENT_KEY")) {
            (Some(certificate), Some(key)) => Some(ClientIdentity {
                certificate: certificate.into(),
                key: key.into(),
            }),
            (None, None) => None,
            (Some(_), None) | (None, Some(_)) => return Err(OtlpEndpointError::Identity),
        };
        Ok(Some(Self {
            signal,
            protocol,
            endpoint,
            authority: either("CERTIFICATE").map(PathBuf::from),
            identity,
        }))
    }

    /// Whether the endpoint uses TLS.
    pub fn is_encrypted(&self) -> bool {
        self.endpoint.starts_with("https://")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn read(
        signal: Signal,
        variables: &[(&str, &str)],
    ) -> Result<Option<OtlpEndpoint>, OtlpEndpointError> {
        let known: BTreeMap<&str, &str> = variables.iter().copied().collect();
        OtlpEndpoint::read(signal, |name| {
            known.get(name).map(|value| (*value).to_owned())
        })
    }

    fn endpoint(signal: Signal, variables: &[(&str, &str)]) -> String {
        read(signal, variables).unwrap().unwrap().endpoint
    }

    #[test]
    fn nothing_is_sent_without_an_endpoint_or_if_disabled() {
        assert_eq!(read(Signal::Traces, &[]), Ok(None));
        assert_eq!(
            read(Signal::Traces, &[("OTEL_EXPORTER_OTLP_ENDPOINT", "")]),
            Ok(None)
        );
        let forbidden = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318"),
            ("OTEL_SDK_DISABLED", "true"),
        ];
        assert_eq!(read(Signal::Traces, &forbidden), Ok(None));
        let metrics_alone = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318"),
            ("OTEL_TRACES_EXPORTER", "none"),
        ];
        assert_eq!(read(Signal::Traces, &metrics_alone), Ok(None));
        assert!(read(Signal::Metrics, &metrics_alone).unwrap().is_some());
    }

    #[test]
    fn invalid_variables_are_ignored_without_an_endpoint() {
        let json = ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json");
        assert_eq!(read(Signal::Traces, &[json]), Ok(None));
    }

    #[test]
    fn the_shared_endpoint_gets_the_path_of_the_signal_and_its_own_is_taken_as_it_is() {
        let shared = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318/");
        assert_eq!(
            endpoint(Signal::Traces, &[shared]),
            "http://collector:4318/v1/traces"
        );
        assert_eq!(
            endpoint(Signal::Metrics, &[shared]),
            "http://collector:4318/v1/metrics"
        );
        let own = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://traces/in");
        assert_eq!(endpoint(Signal::Traces, &[shared, own]), "http://traces/in");
        let grpc = ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
        let bare = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317");
        assert_eq!(
            endpoint(Signal::Traces, &[bare, grpc]),
            "http://collector:4317"
        );
    }

    #[test]
    fn an_endpoint_without_a_scheme_uses_tls_unless_insecure_is_set() {
        let bare = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "collector:4317");
        assert_eq!(endpoint(Signal::Traces, &[bare]), "https://collector:4317");
        let open = ("OTEL_EXPORTER_OTLP_INSECURE", "TRUE");
        assert_eq!(
            endpoint(Signal::Traces, &[bare, open]),
            "http://collector:4317"
        );
    }

    #[test]
    fn invalid_variables_are_refused_with_a_sentence() {
        let there = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector");
        let json = ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json");
        assert_eq!(
            read(Signal::Traces, &[there, json])
                .unwrap_err()
                .to_string(),
            "OTEL_EXPORTER_OTLP_PROTOCOL says 'http/json': prober speaks grpc and http/protobuf"
        );
        let half = ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "key.pem");
        assert_eq!(
            read(Signal::Traces, &[there, half]),
            Err(OtlpEndpointError::Identity)
        );
    }
}
