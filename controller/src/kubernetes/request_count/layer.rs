//! The middleware that counts the requests of a client.

use std::task::{Context, Poll};

use futures::FutureExt as _;
use futures::future::Inspect;
use http::{Method, Request, Response};
use kube::client::Body;
use tower::{Layer, Service};

use super::RequestCount;

impl RequestCount {
    /// The middleware that counts the requests of a client.
    pub(crate) fn layer(&self) -> CountLayer {
        CountLayer(self.clone())
    }
}

/// The middleware that counts requests.
#[derive(Clone, Debug)]
pub(crate) struct CountLayer(RequestCount);

impl<S> Layer<S> for CountLayer {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Counted<S> {
        Counted {
            inner,
            count: self.0.clone(),
        }
    }
}

/// A service whose requests are counted.
#[derive(Clone, Debug)]
pub(crate) struct Counted<S> {
    inner: S,
    count: RequestCount,
}

/// Counts the result of a request.
type Counting<B, E> = Box<dyn FnOnce(&Result<Response<B>, E>) + Send>;

impl<S, B> Service<Request<Body>> for Counted<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
{
    type Response = Response<B>;
    type Error = S::Error;
    type Future = Inspect<S::Future, Counting<B, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (verb, count) = (verb(&request), self.count.clone());
        let counting: Counting<B, S::Error> = Box::new(move |result| {
            let code = match result {
                Ok(response) => response.status().as_str().to_owned(),
                Err(_) => "error".to_owned(),
            };
            count.count(verb, code);
        });
        self.inner.call(request).inspect(counting)
    }
}

fn verb(request: &Request<Body>) -> &'static str {
    let query = request.uri().query().unwrap_or_default();
    let is_watch = query.split('&').any(|part| part == "watch=true");
    match *request.method() {
        Method::GET if is_watch => "watch",
        Method::GET => "get",
        Method::POST => "post",
        Method::PUT => "put",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::pin::pin;

    use super::*;

    #[test]
    fn requests_are_counted_by_verb_and_code() {
        let count = RequestCount::default();
        let respond = tower::service_fn(|request: Request<Body>| async move {
            let code = if request.method() == Method::POST {
                403
            } else {
                200
            };
            Ok::<_, Infallible>(Response::builder().status(code).body(()).unwrap())
        });
        let mut service = count.layer().layer(respond);
        for (method, path) in [
            (Method::GET, "/api/v1/nodes?limit=500"),
            (Method::GET, "/api/v1/nodes?watch=true&limit=1"),
            (Method::GET, "/api/v1/nodes"),
            (Method::POST, "/api/v1/events"),
        ] {
            let request = Request::builder().method(method).uri(path);
            let response = service.call(request.body(Body::empty()).unwrap());
            assert!(pin!(response).now_or_never().is_some());
        }
        let counts: Vec<_> = count.by_verb_and_code().into_iter().collect();
        let of = |verb, code: &str, count| ((verb, code.to_owned()), count);
        assert_eq!(
            counts,
            [
                of("get", "200", 2),
                of("post", "403", 1),
                of("watch", "200", 1)
            ]
        );
        assert_eq!(count.total(), 4);
    }
}
