//! Whether a failed export may be retried.
//!
//! <https:
//!
//! opentelemetry.io/docs/specs/otlp/#failures>: errors that are not listed there as retryable are final.

/// By the status of an HTTP response; `None` if there was none.
pub(super) const fn is_final_status(status: Option<u16>) -> bool {
    !matches!(status, None | Some(429 | 502 | 503 | 504))
}

/// By the library's error text of a gRPC call, which ends with the code's name, or describes a transport error.
/// `ResourceExhausted` may be final, but the library does not pass on the `RetryInfo` that would say so: it is retried.
pub(super) fn is_final_code(message: &str) -> bool {
    let code = message.rsplit_once("gRPC code: ").map(|(_, code)| code);
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
    fn only_errors_that_the_specification_calls_retryable_are_retried() {
        for status in [429, 502, 503, 504] {
            assert!(!is_final_status(Some(status)), "{status}");
        }
        for status in [400, 401, 403, 404, 413, 500, 501] {
            assert!(is_final_status(Some(status)), "{status}");
        }
        assert!(!is_final_status(None));
        let message = |code: &str| {
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
            assert!(!is_final_code(&message(code)), "{code}");
        }
        for code in [
            "Unauthenticated",
            "InvalidArgument",
            "Unimplemented",
            "Internal",
        ] {
            assert!(is_final_code(&message(code)), "{code}");
        }
        assert!(!is_final_code(&message(
            "Unknown: transport error: broken pipe"
        )));
    }
}
