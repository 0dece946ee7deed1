//! Accepts WebSockets.

use std::future::Future;

use base64::{Engine, engine::general_purpose::STANDARD};

use super::{Config, WebSocket, frame::Role};
use crate::{
    Error, HeaderValue, Method, Request, Response, StatusCode,
    header::{
        ALLOW, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
        SEC_WEBSOCKET_VERSION,
    },
    origin,
};

/// Accepts a WebSocket, and runs `talk` on it as a task.
///
/// Web pages of other sites are refused, unless [`Config::origins`] has them.
///
/// # Errors
/// 403 if a page of another site asks. 426 if the request does not ask for a WebSocket, or asks for
/// a version other than 13. 405 if its method is not GET. 400 if it is malformed.
pub fn upgrade<F, Fut>(request: Request, talk: F) -> Result<Response, Error>
where
    F: FnOnce(WebSocket) -> Fut + 'static,
    Fut: Future<Output = ()> + 'static,
{
    upgrade_with(request, Config::default(), talk)
}

/// Like [`upgrade`], with your own limits and subprotocols.
///
/// # Errors
/// As [`upgrade`].
pub fn upgrade_with<F, Fut>(request: Request, config: Config, talk: F) -> Result<Response, Error>
where
    F: FnOnce(WebSocket) -> Fut + 'static,
    Fut: Future<Output = ()> + 'static,
{
    if origin::of(&request, &config.origins) == origin::From::Elsewhere {
        return Err(Error::new(
            StatusCode::FORBIDDEN,
            "pages of other sites must not open this WebSocket",
        ));
    }
    let handle = request.handle().clone();
    // A path that reads answers HEAD too.
    let gets = matches!(*request.method(), Method::GET | Method::CONNECT);
    let values = |name| request.headers().get_all(name).into_iter();
    let text = |name| {
        let value = values(name).next()?.to_str().ok()?;
        Some(value.to_owned())
    };
    let (key, version) = (text(SEC_WEBSOCKET_KEY), text(SEC_WEBSOCKET_VERSION));
    // RFC 6455, 11.3.1 and 11.3.5. The protocols may come in several (11.3.4).
    let twice = [SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION]
        .into_iter()
        .any(|name| values(name).count() > 1);
    let wanted: Vec<_> = values(SEC_WEBSOCKET_PROTOCOL)
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_owned())
        .collect();
    let protocol = config
        .protocols
        .iter()
        .find(|ours| wanted.contains(ours))
        .cloned();
    let chosen = protocol.clone();
    let mut response = request.upgrade("websocket", move |stream| {
        let socket = WebSocket::new(&handle, stream, &[], Role::Server, &config, chosen);
        handle.spawn(talk(socket));
    })?;
    if !gets {
        // RFC 6455, 4.1.
        let error = Error::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "a WebSocket is opened with GET",
        );
        return Err(error.with_header(ALLOW, HeaderValue::from_static("GET")));
    }
    if twice {
        return Err(Error::bad_request(
            "the key or the version of the WebSocket is there twice",
        ));
    }
    if version.as_deref() != Some("13") {
        // RFC 6455, 4.4.
        let error = Error::upgrade_required(
            "websocket",
            "only version 13 of the WebSocket protocol is supported",
        );
        return Err(error.with_header(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13")));
    }
    // HTTP/2 has no key (RFC 8441, 5).
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let key =
            key.ok_or_else(|| Error::bad_request("the header Sec-WebSocket-Key is missing"))?;
        // 16 bytes (RFC 6455, 4.2.1).
        if !STANDARD.decode(&key).is_ok_and(|key| key.len() == 16) {
            return Err(Error::bad_request(
                "the header Sec-WebSocket-Key is not valid",
            ));
        }
        let accept = tungstenite::handshake::derive_accept_key(key.as_bytes());
        if let Ok(accept) = HeaderValue::from_str(&accept) {
            response.headers_mut().insert(SEC_WEBSOCKET_ACCEPT, accept);
        }
    }
    if let Some(protocol) = protocol.and_then(|protocol| HeaderValue::from_str(&protocol).ok()) {
        response
            .headers_mut()
            .insert(SEC_WEBSOCKET_PROTOCOL, protocol);
    }
    Ok(response)
}
