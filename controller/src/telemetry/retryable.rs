//! Whether who refused telemetry may take it later.
//!
//! <https://opentelemetry.io/docs/specs/otlp/#failures>: all that is not named there as retryable is refused for good.

/// By the status of an HTTP answer; `None` where none came.
pub(super) const fn is_final_status(status: Option<u16>) -> bool {
    !matches!(status, None | Some(429 | 502 | 503 | 504))
}

/// By what the library says of a gRPC call: its code in words, and what went wrong on the way to it where no server has said that
/// code. A server that is exhausted may say that it recovers, but the library does not pass that on: it is asked again.
pub(super) fn is_final_code(said: &str) -> bool {
    let code = said.rsplit_once("gRPC code: ").map(|(_, code)| code);
    matches!(
        code,
        Some(
            "Unknown"
                | "InvalidArgument"
                | "NotFound"
                | "AlreadyExists"
                | "PermissionDenied"
                | "Unauthenticated"
                | "FailedPrecondition"
                | "Unimplemented"
                | "Internal"
        )
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_specification_calls_retryable_is_tried_again_and_nothing_else() {
        for status in [429, 502, 503, 504] {
            assert!(!is_final_status(Some(status)), "{status}");
        }
        for status in [400, 401, 403, 404, 413, 500, 501] {
            assert!(is_final_status(Some(status)), "{status}");
        }
        assert!(!is_final_status(None));
        let said = |code: &str| {
            format!("Operation failed: TonicTracesClient export failed with gRPC code: {code}")
        };
        for code in [
            "Unavailable",
            "DeadlineExceeded",
            "Cancelled",
            "Aborted",
            "OutOfRange",
            "DataLoss",
            "ResourceExhausted",
        ] {
            assert!(!is_final_code(&said(code)), "{code}");
        }
        for code in [
            "Unauthenticated",
            "InvalidArgument",
            "Unimplemented",
            "Internal",
        ] {
            assert!(is_final_code(&said(code)), "{code}");
        }
        assert!(!is_final_code(&said(
            "Unknown: transport error: broken pipe"
        )));
    }
}
