//! The certificates of issuers that a peer sends.

use entwined::{
    simulation::Simulation,
    tls::{
        Acceptor, ClientCertificates, Connector, Identity, Roots,
        rustls::pki_types::{CertificateDer, PrivateKeyDer},
    },
    transport::memory::Link,
};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use super::support::{converse, established, identity, read, streams};

/// One that issues certificates.
struct Authority {
    name: String,
    key: KeyPair,
}

impl Authority {
    fn new(name: &str) -> Self {
        Authority {
            name: name.to_owned(),
            key: KeyPair::generate().expect("a key"),
        }
    }

    fn params(&self) -> CertificateParams {
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, &self.name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
    }

    /// The certificate that `issuer` gives this authority.
    fn by(&self, issuer: &Authority) -> CertificateDer<'static> {
        let issuer = Issuer::new(issuer.params(), &issuer.key);
        let made = self.params().signed_by(&self.key, &issuer);
        made.expect("a certificate").der().clone()
    }

    /// Gives a certificate to `localhost`, which shows these certificates too.
    fn identity(&self, issuers: &[CertificateDer<'static>]) -> Identity {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(["localhost".to_owned()]).expect("a name");
        let leaf = params.signed_by(&key, &Issuer::new(self.params(), &self.key));
        let mut chain = vec![leaf.expect("a certificate").der().clone()];
        chain.extend_from_slice(issuers);
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        Identity::new(chain, key).expect("its key")
    }
}

/// What a client, and a server that asks for certificates, think of who shows `identity`: nothing
/// if they trust it.
fn judged(identity_shown: &Identity, root: &Authority) -> [Option<String>; 2] {
    let (roots, other) = (Roots::only(&[root.by(root)]), identity(&["localhost"]));
    let clients = [
        Connector::builder().roots(roots.clone()),
        Connector::builder()
            .roots(Roots::only(other.certificates()))
            .identity(identity_shown.clone()),
    ];
    let servers = [
        Acceptor::builder(identity_shown.clone()),
        Acceptor::builder(other).client_certificates(ClientCertificates::Required(roots)),
    ];
    let [as_server, as_client] = [0, 1].map(|index| (index, Simulation::new()));
    let mut clients = clients
        .map(|builder| builder.build().expect("roots"))
        .into_iter();
    let mut servers = servers
        .map(|builder| builder.build().expect("roots"))
        .into_iter();
    [as_server, as_client].map(|(index, simulation)| {
        let (acceptor, connector) = (servers.next(), clients.next());
        let (mut client, mut server) = streams(
            &simulation.handle(),
            &acceptor.expect("two"),
            &connector.expect("two"),
            Link::default(),
        );
        let client = async move {
            let heard = established(&mut client).await;
            drop(client);
            heard
        };
        let server = async move {
            let heard = established(&mut server).await;
            let _ = read(&mut server).await;
            heard
        };
        let (client, server) = converse(&simulation, client, server);
        let judge = if index == 0 { client } else { server };
        judge.err().map(|error| error.to_string())
    })
}

fn assert_unknown(judged: &[Option<String>; 2]) {
    for judged in judged {
        let why = judged.as_deref().expect("refused");
        assert!(why.contains("UnknownIssuer"), "{why}");
    }
}

#[test]
fn issuers_that_issued_each_other_are_not_all_tried() {
    let root = Authority::new("root");
    let middle: Vec<_> = (0..60).map(|_| Authority::new("middle")).collect();
    let issuers: Vec<_> = middle.iter().map(|one| one.by(&middle[0])).collect();
    assert_unknown(&judged(&middle[0].identity(&issuers), &root));
}

#[test]
fn ten_certificates_of_issuers_are_looked_at() {
    let (root, middle) = (Authority::new("root"), Authority::new("middle"));
    let mut issuers: Vec<_> = (0..9)
        .map(|number| Authority::new(&format!("another {number}")).by(&root))
        .collect();
    issuers.push(middle.by(&root));
    assert_eq!(judged(&middle.identity(&issuers), &root), [None, None]);
    issuers.insert(0, Authority::new("one more").by(&root));
    assert_unknown(&judged(&middle.identity(&issuers), &root));
}

#[test]
fn an_issuer_may_show_a_certificate_twice_or_one_of_another_root() {
    let (root, middle) = (Authority::new("root"), Authority::new("middle"));
    let old = Authority::new("an old root");
    let twice = middle.by(&old);
    let mut issuers = vec![twice; 12];
    issuers.extend([old.by(&old), middle.by(&root), root.by(&root)]);
    assert_eq!(judged(&middle.identity(&issuers), &root), [None, None]);
}

#[test]
fn a_root_with_a_new_key_may_be_issued_by_the_old_one() {
    let (root, new) = (Authority::new("root"), Authority::new("root"));
    let middle = Authority::new("middle");
    let issuers = [middle.by(&new), root.by(&root), new.by(&root)];
    assert_eq!(judged(&middle.identity(&issuers), &root), [None, None]);
}
