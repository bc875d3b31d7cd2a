//! The connection to an OTLP endpoint, which all exporters of one signal share; with TLS if the URL says so.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use http::{Request, Response};
use hyper_rustls::{ConfigBuilderExt as _, HttpsConnectorBuilder};
use opentelemetry_http::hyper::HyperClient;
use opentelemetry_http::{Bytes, HttpClient, HttpError};
use opentelemetry_otlp::{
    ExporterBuildError, MetricExporter, RetryPolicy, SpanExporter, WithExportConfig as _,
    WithHttpConfig as _, WithTonicConfig as _,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkError;
use opentelemetry_sdk::trace::SpanExporter as _;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use thiserror::Error;
use tokio::runtime::Handle;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

use crate::telemetry::otlp_endpoint::{OtlpEndpoint, Protocol};
use crate::telemetry::retryable;

/// The timeout of one HTTP request; the library's own is usually shorter.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// The connection to an OTLP endpoint. It connects when it first sends.
#[derive(Debug)]
pub(super) enum OtlpChannel {
    /// gRPC over one HTTP/2 connection.
    Grpc(Channel),
    /// HTTP.
    Http {
        client: Arc<dyn HttpClient>,
        /// The URL of the signal.
        endpoint: String,
        /// The status of the last response; 0 if there was none.
        answered: Arc<AtomicU16>,
    },
}

/// An OTLP endpoint cannot be used.
#[derive(Debug, Error)]
pub enum OtlpChannelError {
    /// The URL is invalid.
    #[error("cannot send telemetry to '{endpoint}': {source}; see OTEL_EXPORTER_OTLP_ENDPOINT")]
    Endpoint {
        /// The URL.
        endpoint: String,
        /// Why.
        source: tonic::transport::Error,
    },
    /// A certificate or key cannot be read.
    #[error("cannot read {path}, which OTEL_EXPORTER_OTLP_* names for TLS: {why}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The certificates or keys do not work for TLS.
    #[error("cannot speak TLS with what OTEL_EXPORTER_OTLP_* names: {0}")]
    Tls(#[from] rustls::Error),
    /// The library rejects the configuration.
    #[error("cannot send telemetry: {0}")]
    Exporter(#[from] ExporterBuildError),
}

impl OtlpChannel {
    /// A connection to `target`, driven by `runtime`.
    pub(super) fn new(target: &OtlpEndpoint, runtime: &Handle) -> Result<Self, OtlpChannelError> {
        match target.protocol {
            Protocol::Grpc => {
                let _inside = runtime.enter();
                Ok(Self::Grpc(channel(target)?))
            }
            Protocol::Http => {
                let connector = HttpsConnectorBuilder::new()
                    .with_tls_config(client_config(target)?)
                    .https_or_http()
                    .enable_all_versions()
                    .build();
                let answered = Arc::<AtomicU16>::default();
                let client = OnRuntime {
                    client: Arc::new(HyperClient::new(connector, REQUEST_TIMEOUT, None)),
                    runtime: runtime.clone(),
                    answered: Arc::clone(&answered),
                };
                Ok(Self::Http {
                    client: Arc::new(client),
                    endpoint: target.endpoint.clone(),
                    answered,
                })
            }
        }
    }

    /// An exporter of spans with this resource. It does not retry: the trace queue does.
    pub(super) fn spans(&self, resource: &Resource) -> Result<SpanExporter, OtlpChannelError> {
        let mut exporter = match self {
            Self::Grpc(channel) => SpanExporter::builder()
                .with_tonic()
                .with_channel(channel.clone())
                .with_retry_policy(RetryPolicy::disabled())
                .build()?,
            Self::Http {
                client, endpoint, ..
            } => SpanExporter::builder()
                .with_http()
                .with_shared_http_client(Arc::clone(client))
                .with_endpoint(endpoint)
                .with_retry_policy(RetryPolicy::disabled())
                .build()?,
        };
        exporter.set_resource(resource);
        Ok(exporter)
    }

    /// Whether the request that has just failed must not be repeated.
    pub(super) fn has_refused(&self, error: &OTelSdkError) -> bool {
        match self {
            Self::Grpc(_) => retryable::is_final_code(&error.to_string()),
            Self::Http { answered, .. } => {
                let status = answered.load(Ordering::Acquire);
                retryable::is_final_status(Some(status).filter(|status| *status > 0))
            }
        }
    }

    /// An exporter of metrics.
    pub(super) fn metrics(&self) -> Result<MetricExporter, OtlpChannelError> {
        Ok(match self {
            Self::Grpc(channel) => MetricExporter::builder()
                .with_tonic()
                .with_channel(channel.clone())
                .build()?,
            Self::Http {
                client, endpoint, ..
            } => MetricExporter::builder()
                .with_http()
                .with_shared_http_client(Arc::clone(client))
                .with_endpoint(endpoint)
                .build()?,
        })
    }
}

fn channel(target: &OtlpEndpoint) -> Result<Channel, OtlpChannelError> {
    let refused = |source| OtlpChannelError::Endpoint {
        endpoint: target.endpoint.clone(),
        source,
    };
    let mut endpoint = Endpoint::from_shared(target.endpoint.clone()).map_err(refused)?;
    if target.is_encrypted() {
        let mut tls = ClientTlsConfig::new();
        tls = match &target.authority {
            Some(path) => tls.ca_certificate(Certificate::from_pem(read(path)?)),
            None => tls.with_native_roots(),
        };
        if let Some(own) = &target.identity {
            let (certificate, key) = (read(&own.certificate)?, read(&own.key)?);
            tls = tls.identity(tonic::transport::Identity::from_pem(certificate, key));
        }
        endpoint = endpoint.tls_config(tls).map_err(refused)?;
    }
    Ok(endpoint.connect_lazy())
}

fn client_config(target: &OtlpEndpoint) -> Result<ClientConfig, OtlpChannelError> {
    let config = ClientConfig::builder();
    let trusting = match &target.authority {
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots.add(certificate)?;
            }
            config.with_root_certificates(roots)
        }
        // Without TLS no authority is needed, and an image without certificates must be able to send.
        None if !target.is_encrypted() => config.with_root_certificates(RootCertStore::empty()),
        None => config
            .with_native_roots()
            .map_err(|error| OtlpChannelError::Unreadable {
                path: "the system's certificates".into(),
                why: error.to_string(),
            })?,
    };
    match &target.identity {
        Some(own) => {
            let key = PrivateKeyDer::from_pem_slice(&read(&own.key)?)
                .map_err(|error| unreadable(&own.key, &error))?;
            Ok(trusting.with_client_auth_cert(certificates(&own.certificate)?, key)?)
        }
        None => Ok(trusting.with_no_client_auth()),
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, OtlpChannelError> {
    CertificateDer::pem_slice_iter(&read(path)?)
        .collect::<Result<_, _>>()
        .map_err(|error| unreadable(path, &error))
}

fn read(path: &Path) -> Result<Vec<u8>, OtlpChannelError> {
    fs::read(path).map_err(|error| unreadable(path, &error))
}

fn unreadable(path: &Path, why: &impl ToString) -> OtlpChannelError {
    OtlpChannelError::Unreadable {
        path: path.to_owned(),
        why: why.to_string(),
    }
}

/// Sends requests on a runtime: the thread that sends metrics has none.
#[derive(Debug)]
struct OnRuntime {
    client: Arc<dyn HttpClient>,
    runtime: Handle,
    answered: Arc<AtomicU16>,
}

impl HttpClient for OnRuntime {
    fn send_bytes<'own, 'sent>(
        &'own self,
        request: Request<Bytes>,
    ) -> BoxFuture<'sent, Result<Response<Bytes>, HttpError>>
    where
        'own: 'sent,
        Self: 'sent,
    {
        let (client, answered) = (Arc::clone(&self.client), Arc::clone(&self.answered));
        let sent = self.runtime.spawn(async move {
            answered.store(0, Ordering::Release);
            let answer = client.send_bytes(request).await;
            if let Ok(answer) = &answer {
                answered.store(answer.status().as_u16(), Ordering::Release);
            }
            answer
        });
        Box::pin(async move { sent.await? })
    }
}
