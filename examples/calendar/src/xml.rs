//! XML: what clients send, as a tree with bounds, and what is written for them.

use std::fmt::Write as _;

use quick_xml::{
    NsReader,
    escape::escape,
    events::{BytesStart, Event},
    name::{QName, ResolveResult},
};

pub const DAV: &str = "DAV:";
pub const CALDAV: &str = "urn:ietf:params:xml:ns:caldav";
pub const APPLE: &str = "http://calendarserver.org/ns/";
const XML: &str = "http://www.w3.org/XML/1998/namespace";
const XMLNS: &str = "http://www.w3.org/2000/xmlns/";

/// Elements in elements. What clients send has about ten levels.
const MAX_DEPTH: usize = 40;
/// Of one element, without declarations of namespaces.
const MAX_ATTRIBUTES: usize = 16;
const MAX_DECLARATIONS: usize = 32;
/// A report may name some thousand events.
const MAX_ELEMENTS: usize = 20_000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    pub namespace: String,
    pub local: String,
}

impl Name {
    pub fn new(namespace: &str, local: &str) -> Name {
        Name {
            namespace: namespace.to_owned(),
            local: local.to_owned(),
        }
    }

    pub fn is(&self, namespace: &str, local: &str) -> bool {
        self.namespace == namespace && self.local == local
    }
}

#[derive(Clone, Debug)]
pub struct Element {
    pub name: Name,
    attributes: Vec<(Name, String)>,
    content: Vec<Content>,
}

#[derive(Clone, Debug)]
enum Content {
    Element(Element),
    Text(String),
}

impl Element {
    pub fn is(&self, namespace: &str, local: &str) -> bool {
        self.name.is(namespace, local)
    }

    pub fn elements(&self) -> impl Iterator<Item = &Element> {
        self.content.iter().filter_map(|content| match content {
            Content::Element(element) => Some(element),
            Content::Text(_) => None,
        })
    }

    pub fn all(&self, namespace: &str, local: &str) -> impl Iterator<Item = &Element> {
        self.elements()
            .filter(move |element| element.is(namespace, local))
    }

    pub fn child(&self, namespace: &str, local: &str) -> Option<&Element> {
        self.all(namespace, local).next()
    }

    /// The text that is directly in the element, without spaces around it.
    pub fn text(&self) -> String {
        let parts = self.content.iter().filter_map(|content| match content {
            Content::Element(_) => None,
            Content::Text(text) => Some(text.as_str()),
        });
        parts.collect::<String>().trim().to_owned()
    }

    /// The value of an attribute without a namespace.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        let mut attributes = self.attributes.iter();
        attributes
            .find(|(known, _)| known.is("", name))
            .map(|(_, value)| value.as_str())
    }

    /// The element as text that means the same wherever it is put.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        self.write(&mut text);
        text
    }

    fn write(&self, text: &mut String) {
        let Name { namespace, local } = &self.name;
        let (prefix, _) = match namespace.as_str() {
            "" => ("", write!(text, "<{local} xmlns=\"\"")),
            // It has no other prefix, and needs no declaration.
            XML => ("xml:", write!(text, "<xml:{local}")),
            _ => (
                "x:",
                write!(text, "<x:{local} xmlns:x=\"{}\"", escape(namespace)),
            ),
        };
        for (number, (name, value)) in self.attributes.iter().enumerate() {
            let Name { namespace, local } = name;
            let _ = match namespace.as_str() {
                "" => write!(text, " {local}"),
                XML => write!(text, " xml:{local}"),
                _ => write!(
                    text,
                    " xmlns:a{number}=\"{}\" a{number}:{local}",
                    escape(namespace)
                ),
            };
            let value = escaped(value).replace('\n', "&#10;").replace('\t', "&#9;");
            let _ = write!(text, "=\"{value}\"");
        }
        text.push('>');
        for content in &self.content {
            match content {
                Content::Element(element) => element.write(text),
                Content::Text(part) => text.push_str(&escaped(part)),
            }
        }
        let _ = write!(text, "</{prefix}{local}>");
    }
}

/// Reads a document. A document type is refused, so there are no entities but those of XML.
pub fn parse(text: &[u8]) -> Result<Element, String> {
    let text = std::str::from_utf8(text).map_err(|_| "the XML is not UTF-8")?;
    let mut reader = NsReader::from_str(text.trim_start_matches('\u{feff}'));
    let resolver = reader.resolver_mut();
    resolver.set_max_declarations_per_element(MAX_DECLARATIONS);
    let mut open: Vec<Element> = Vec::new();
    let mut root = None;
    let mut count = 0;
    loop {
        let wrong = |error: &dyn std::fmt::Display| format!("the XML is wrong: {error}");
        let event = reader.read_event().map_err(|error| wrong(&error))?;
        let done = match event {
            Event::Start(start) => {
                count += 1;
                if open.len() == MAX_DEPTH || count > MAX_ELEMENTS {
                    return Err("the XML has too many elements, or they are too deep".into());
                }
                open.push(element(&reader, &start)?);
                continue;
            }
            Event::Empty(start) => {
                count += 1;
                if open.len() == MAX_DEPTH || count > MAX_ELEMENTS {
                    return Err("the XML has too many elements, or they are too deep".into());
                }
                Some(element(&reader, &start)?)
            }
            // The reader has compared the names.
            Event::End(_) => open.pop(),
            Event::Text(text) => {
                let text = text.decode().map_err(|error| wrong(&error))?;
                add_text(&mut open, &text)?;
                None
            }
            Event::CData(text) => {
                let text = text.decode().map_err(|error| wrong(&error))?;
                add_text(&mut open, &text)?;
                None
            }
            Event::GeneralRef(reference) => {
                let name = reference.decode().map_err(|error| wrong(&error))?;
                let text = quick_xml::escape::unescape(&format!("&{name};"))
                    .map_err(|error| wrong(&error))?
                    .into_owned();
                add_text(&mut open, &text)?;
                None
            }
            Event::Decl(_) | Event::PI(_) | Event::Comment(_) => None,
            Event::DocType(_) => return Err("a document type is not allowed".into()),
            Event::Eof if open.is_empty() => {
                return root.ok_or_else(|| "there is no XML".into());
            }
            Event::Eof => return Err("the XML ends too early".into()),
        };
        match (done, open.last_mut()) {
            (Some(element), Some(parent)) => parent.content.push(Content::Element(element)),
            (Some(element), None) if root.is_none() => root = Some(element),
            (Some(_), None) => return Err("the XML has two roots".into()),
            (None, _) => {}
        }
    }
}

/// Whether a document may have this character (XML 1.0, 2.2), even as a reference.
fn is_allowed(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{fffd}' | '\u{10000}'..)
}

/// What is written into answers must not break them for all who read them.
fn check(text: &str) -> Result<(), String> {
    match text.chars().all(is_allowed) {
        true => Ok(()),
        false => Err("the XML has a character that XML cannot have".into()),
    }
}

fn add_text(open: &mut [Element], text: &str) -> Result<(), String> {
    check(text)?;
    match open.last_mut() {
        Some(element) => element.content.push(Content::Text(text.to_owned())),
        None if text.trim().is_empty() => {}
        None => return Err("the XML has text outside of its root".into()),
    }
    Ok(())
}

fn element(reader: &NsReader<&[u8]>, start: &BytesStart) -> Result<Element, String> {
    let name = resolve(reader, start.name(), true)?;
    let mut attributes = Vec::new();
    // Its own check for doubles takes time that grows with the square of their number.
    for attribute in start.attributes().with_checks(false) {
        let attribute = attribute.map_err(|error| format!("the XML is wrong: {error}"))?;
        if attribute.key.as_namespace_binding().is_some() {
            continue;
        }
        if attributes.len() == MAX_ATTRIBUTES {
            return Err("an element has too many attributes".into());
        }
        let name = resolve(reader, attribute.key, false)?;
        if attributes.iter().any(|(known, _)| *known == name) {
            return Err("an element has an attribute twice".into());
        }
        let value = std::str::from_utf8(&attribute.value).map_err(|error| error.to_string())?;
        let value = quick_xml::escape::unescape(value)
            .map_err(|error| format!("the XML is wrong: {error}"))?;
        check(&value)?;
        attributes.push((name, value.into_owned()));
    }
    Ok(Element {
        name,
        attributes,
        content: Vec::new(),
    })
}

fn resolve(reader: &NsReader<&[u8]>, name: QName, is_element: bool) -> Result<Name, String> {
    let (namespace, local) = match is_element {
        true => reader.resolver().resolve_element(name),
        false => reader.resolver().resolve_attribute(name),
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let namespace = match namespace {
        // It is the value of an attribute, which the reader leaves as it is written.
        ResolveResult::Bound(namespace) => quick_xml::escape::unescape(&text(namespace.as_ref()))
            .map_err(|error| format!("the XML is wrong: {error}"))?
            .into_owned(),
        ResolveResult::Unbound => String::new(),
        ResolveResult::Unknown(prefix) => {
            return Err(format!("the prefix {:?} is not declared", text(&prefix)));
        }
    };
    check(&namespace)?;
    if namespace == XMLNS {
        return Err("a name is in the namespace of declarations".into());
    }
    let local = text(local.as_ref());
    // Names are repeated in answers, so they must be names.
    if !local.starts_with(begins_name) || !local.chars().all(is_in_name) {
        return Err(format!("{local:?} is not a name"));
    }
    Ok(Name { namespace, local })
}

/// Whether a name may begin with this character (XML 1.0, 2.3; no colon is left here).
fn begins_name(c: char) -> bool {
    matches!(c, 'A'..='Z' | '_' | 'a'..='z')
        || matches!(c, '\u{c0}'..='\u{2ff}' if !matches!(c, '\u{d7}' | '\u{f7}'))
        || matches!(c, '\u{370}'..='\u{1fff}' if c != '\u{37e}')
        || matches!(c, '\u{200c}'..='\u{200d}' | '\u{2070}'..='\u{218f}')
        || matches!(c, '\u{2c00}'..='\u{2fef}' | '\u{3001}'..='\u{d7ff}')
        || matches!(c, '\u{f900}'..='\u{fdcf}' | '\u{fdf0}'..='\u{fffd}')
        || matches!(c, '\u{10000}'..='\u{effff}')
}

fn is_in_name(c: char) -> bool {
    begins_name(c)
        || matches!(c, '-' | '.' | '0'..='9' | '\u{b7}')
        || matches!(c, '\u{300}'..='\u{36f}' | '\u{203f}'..='\u{2040}')
}

pub fn escaped(text: &str) -> String {
    // A calendar may have bytes that XML cannot have at all.
    let allowed = text.chars().filter(|c| is_allowed(*c));
    escape(allowed.collect::<String>()).replace('\r', "&#13;")
}

/// Writes an element. Its content is XML.
pub fn wrap(name: &Name, content: &str) -> String {
    let Name { namespace, local } = name;
    let prefix = match namespace.as_str() {
        DAV => "D:",
        CALDAV => "C:",
        APPLE => "S:",
        XML => "xml:",
        "" => "",
        _ => {
            return match content {
                "" => format!("<x:{local} xmlns:x=\"{}\"/>", escape(namespace.as_str())),
                _ => format!(
                    "<x:{local} xmlns:x=\"{}\">{content}</x:{local}>",
                    escape(namespace.as_str())
                ),
            };
        }
    };
    match content {
        "" => format!("<{prefix}{local}/>"),
        _ => format!("<{prefix}{local}>{content}</{prefix}{local}>"),
    }
}

/// A document. `root` is an element's name, with the prefix `D:` or `C:`.
pub fn document(root: &str, content: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n\
         <{root} xmlns:D=\"{DAV}\" xmlns:C=\"{CALDAV}\" xmlns:S=\"{APPLE}\">{content}</{root}>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_becomes_a_tree() {
        let root = parse(
            b"<?xml version='1.0'?>\n<!-- x --><propfind xmlns='DAV:' xmlns:c='urn:c'>\
              <prop><c:a n='1 &amp; 2'/><b>x &lt; <![CDATA[<y>]]>&#33;</b></prop></propfind>",
        )
        .expect("it is fine");
        assert!(root.is(DAV, "propfind"));
        let prop = root.child(DAV, "prop").expect("it is there");
        let a = prop.child("urn:c", "a").expect("it is there");
        assert_eq!(a.attribute("n"), Some("1 & 2"));
        assert_eq!(
            prop.child(DAV, "b").expect("it is there").text(),
            "x < <y>!"
        );
    }

    #[test]
    fn an_element_means_the_same_in_another_place() {
        let root = parse(
            b"<a xmlns='urn:a' xmlns:b='urn:b'><b:c b:d='&quot;' xml:lang='de'><e/>&amp;\
              <f xmlns=''/></b:c></a>",
        )
        .expect("it is fine");
        let inner = root.elements().next().expect("it has one");
        let again = parse(inner.to_text().as_bytes()).expect("it is XML");
        assert_eq!(again.name, Name::new("urn:b", "c"));
        assert_eq!(again.attributes, inner.attributes);
        assert!(again.child("urn:a", "e").is_some() && again.child("", "f").is_some());
        assert_eq!(again.text(), "&");
    }

    /// A property of one client must not break the answers for all others.
    #[test]
    fn what_xml_cannot_have_comes_neither_in_nor_out() {
        for text in [
            "<a>\u{1}</a>",
            "<a>&#1;</a>",
            "<a>&#xfffe;</a>",
            "<a><![CDATA[\u{ffff}]]></a>",
            "<a b='&#27;'/>",
            "<b:a xmlns:b='urn:&#8;'/>",
        ] {
            assert!(parse(text.as_bytes()).is_err(), "{text:?}");
        }
        assert_eq!(escaped("a\u{1}\u{fffe}\u{85}\r\n<"), "a\u{85}&#13;\n&lt;");
    }

    #[test]
    fn what_is_written_as_a_reference_comes_back() {
        let text = "<a:b xmlns:a='urn:x&amp;y&#58;' c='1&#10;2&#9;3&#13;&quot;'>1&#13;2</a:b>";
        let first = parse(text.as_bytes()).expect("it is fine");
        assert_eq!(first.name, Name::new("urn:x&y:", "b"));
        let again = parse(first.to_text().as_bytes()).expect("it is XML");
        assert_eq!(again.name, first.name);
        assert_eq!(again.attribute("c"), Some("1\n2\t3\r\""));
        assert_eq!(again.text(), "1\r2");
        // It is the same namespace as the one that is not written so.
        assert!(
            parse(b"<b xmlns='DAV&#58;'/>")
                .expect("it is fine")
                .is(DAV, "b")
        );
    }

    #[test]
    fn what_is_not_xml_is_refused() {
        for text in [
            "",
            "text",
            "<a>",
            "<a></b>",
            "<a/><b/>",
            "<a/>text",
            "<b:a/>",
            "<a xmlns:b=''><b:c/></a>",
            "<a b='1' b='2'/>",
            "<a>&unknown;</a>",
            "<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>",
            "<a\"b/>",
            "<1/>",
        ] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
        assert!(parse(b"<a>\xff</a>").is_err());
    }

    #[test]
    fn what_is_too_large_is_refused_soon() {
        let deep = "<a xmlns:b='urn:b'>".repeat(50_000);
        let wide = format!("<a>{}</a>", "<b/>".repeat(200_000));
        let attributes = (0..100_000).map(|number| format!(" a{number}='x'"));
        let attributes = format!("<a{}/>", attributes.collect::<String>());
        let names = (0..60_000).map(|number| format!(" xmlns:a{number}='x'"));
        let names = format!("<a{}/>", names.collect::<String>());
        for text in [deep, wide, attributes, names] {
            assert!(parse(text.as_bytes()).is_err(), "{}", &text[..40]);
        }
    }

    /// What other readers of XML do not take must not be in the answers for them.
    #[test]
    fn names_are_those_of_xml() {
        for wrong in ["\u{aa}", "a\u{b2}", "\u{b5}", "a\u{2460}", "a\u{bc}"] {
            assert!(parse(format!("<{wrong}/>").as_bytes()).is_err(), "{wrong}");
        }
        for fine in ["a\u{b7}", "\u{fc}", "_-.1", "a\u{300}", "\u{4e00}"] {
            let fine = fine.replace("_-.1", "_x-.1");
            assert!(parse(format!("<{fine}/>").as_bytes()).is_ok(), "{fine}");
        }
        // Its prefix cannot be another one (Namespaces in XML 1.0, 3).
        let root = parse(b"<a xml:lang='de'><xml:b xml:c='1'/></a>").expect("it is fine");
        let again = parse(root.to_text().as_bytes()).expect("it is XML");
        assert!(again.child(XML, "b").is_some());
        let name = Name::new(XML, "b");
        assert!(parse(document("D:a", &wrap(&name, "")).as_bytes()).is_ok());
        assert!(parse(document("D:a", &wrap(&name, "c")).as_bytes()).is_ok());
    }
}
