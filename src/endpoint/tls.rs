//! The kind for TLS over TCP.

use std::{io, path::PathBuf, rc::Rc};

use super::{
    Client, Connecting, EndpointError, Kinds, Server,
    standard::{Host, Tcp},
};
use crate::{
    deferred::Interrupted,
    reactor::Handle,
    tls::{Acceptor, Connector, Error, Identity, Roots},
    transport::{BoxedListener, ByteStream, Listen},
};

pub(super) fn add(kinds: &mut Kinds) {
    kinds.add_server("tls", |arguments| {
        let tcp = Tcp::read(arguments)?;
        let certificate: PathBuf =
            arguments.required("certificate", "a PEM file with the server's certificates")?;
        // Both may be in one file.
        let key = arguments
            .optional("key", "a PEM file")?
            .unwrap_or_else(|| certificate.clone());
        Ok(Rc::new(TlsServer {
            tcp,
            certificate: fixed(certificate),
            key: fixed(key),
        }))
    });
    kinds.add_client("tls", |arguments| {
        let host = Host::read(arguments)?;
        let name = arguments
            .optional("name", "a name")?
            .unwrap_or_else(|| host.host.clone());
        let roots = arguments.optional("roots", "a PEM file")?.map(fixed);
        Ok(Rc::new(TlsClient { host, name, roots }))
    });
}

/// The program may change its directory before the file is read, or read again.
fn fixed(path: PathBuf) -> PathBuf {
    std::path::absolute(&path).unwrap_or(path)
}

struct TlsServer {
    tcp: Tcp,
    certificate: PathBuf,
    key: PathBuf,
}

impl Server for TlsServer {
    fn listen(&self, handle: &Handle) -> Result<BoxedListener, EndpointError> {
        let identity = Identity::from_pem_files(&self.certificate, &self.key)?;
        let acceptor = Acceptor::builder(identity).build()?;
        Ok(acceptor.listen(self.tcp.bind(handle)?).boxed())
    }
}

struct TlsClient {
    host: Host,
    /// The name that the certificate must be valid for.
    name: String,
    roots: Option<PathBuf>,
}

impl Client for TlsClient {
    fn connect(&self, handle: &Handle) -> Connecting {
        let roots = self.roots.clone();
        // The system's are hundreds of files.
        let connector = handle.defer_to_thread(move |_| Ok::<_, Interrupted>(connector(roots)));
        let (stream, name) = (self.host.clone().connect(handle.clone()), self.name.clone());
        Box::pin(async move {
            let connector = connector.await.map_err(io::Error::other)??;
            let stream = connector.connect(stream.await?, &name)?;
            Ok(Box::new(stream) as Box<dyn ByteStream>)
        })
    }
}

fn connector(roots: Option<PathBuf>) -> Result<Connector, Error> {
    let roots = roots.map_or_else(|| Ok(Roots::system()), Roots::from_pem_file)?;
    Connector::builder().roots(roots).build()
}
