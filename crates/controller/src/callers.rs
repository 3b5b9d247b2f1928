//! Who may call what, by the name in the certificate: agents their sessions, operators their orders, tenants their workloads.
//!
//! Without TLS a caller is somebody on this machine, and may call everything, as a listener on loopback says. Assumes that the
//! connection stands among a request's extensions. Read next: `session.rs`, which holds an agent to its own module.

use std::sync::Arc;

use api::agent::agent_service_server::SERVICE_NAME as AGENT;
use api::operator::operator_service_server::SERVICE_NAME as OPERATOR;
use api::problem::{Kind, Problem};
use api::tenant::tenant_service_server::SERVICE_NAME as TENANT;
use axum::body::Body;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use service::tls::Peer;

/// Lets a call through, or answers that its caller may not make it.
pub(crate) async fn admit(request: Request, next: Next) -> Response {
    let service = request.uri().path().trim_start_matches('/').split('/').next().unwrap_or_default();
    match may_call(&peer(request.extensions()), service) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_status().into_http::<Body>(),
    }
}

/// Who made a request.
pub(crate) fn peer(extensions: &axum::http::Extensions) -> Arc<Peer> {
    extensions.get::<Arc<Peer>>().cloned().unwrap_or_else(|| Arc::new(Peer::Local))
}

/// Who asks an operator's call: the certificate's name; what was written where there is none.
pub(crate) fn operator<T>(request: &tonic::Request<T>, written: impl FnOnce(&T) -> &str) -> String {
    let peer = request.extensions().get::<Arc<Peer>>().and_then(|peer| peer.operator());
    peer.unwrap_or_else(|| written(request.get_ref())).to_owned()
}

/// Whether a caller may use a service at all.
fn may_call(peer: &Peer, service: &str) -> Result<(), Problem> {
    let refuse = |whose: &str, name: &str| {
        let message = format!(
            "this certificate is that of {peer}; {whose} may call this: use a certificate that names flareshift:{name}"
        );
        Err(Problem::new(Kind::PermissionDenied, message))
    };
    match (peer, service) {
        (Peer::Local, _) => Ok(()),
        (Peer::Modules(_), AGENT) | (Peer::Operator(_), OPERATOR) => Ok(()),
        (Peer::Tenant(_) | Peer::Operator(_), TENANT) => Ok(()),
        (_, AGENT) => refuse("agents", "module/ID"),
        (_, OPERATOR) => refuse("operators", "operator/NAME"),
        (_, TENANT) => refuse("tenants", "tenant/NAME"),
        // Health and reflection tell nothing of the fleet.
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn each_certificate_calls_its_own_service_and_no_other() {
        let check = |uri: &str, allowed: [bool; 4]| {
            let peer = Peer::of_uris([uri]);
            let called = [AGENT, OPERATOR, TENANT, "grpc.health.v1.Health"];
            assert_eq!(called.map(|service| may_call(&peer, service).is_ok()), allowed, "{uri}");
        };
        check("flareshift:module/m1", [true, false, false, true]);
        check("flareshift:operator/ada", [false, true, true, true]);
        check("flareshift:tenant/acme", [false, false, true, true]);
        check("other:x", [false, false, false, true]);
        assert!([AGENT, OPERATOR, TENANT].iter().all(|service| may_call(&Peer::Local, service).is_ok()));
    }

    #[test]
    fn a_refusal_says_whose_certificate_it_is_and_which_one_would_do() {
        let refused = may_call(&Peer::of_uris(["flareshift:module/m1"]), OPERATOR).unwrap_err();
        let expected = "this certificate is that of the agent of module m1; operators may call this: use a certificate that names \
                        flareshift:operator/NAME";
        assert_eq!((refused.kind, refused.message.as_str()), (Kind::PermissionDenied, expected));
    }

    #[test]
    fn a_certificates_name_counts_and_not_what_was_written() {
        let mut request = tonic::Request::new("bob".to_owned());
        assert_eq!(operator(&request, String::as_str), "bob");
        request.extensions_mut().insert(Arc::new(Peer::Local));
        assert_eq!(operator(&request, String::as_str), "bob");
        request.extensions_mut().insert(Arc::new(Peer::of_uris(["flareshift:operator/ada"])));
        assert_eq!(operator(&request, String::as_str), "ada");
    }
}
