//! What a wrapper of a stream does not change.

/// Writes methods of [`AsyncRead`](crate::transport::AsyncRead),
/// [`AsyncWrite`](crate::transport::AsyncWrite) and [`ByteStream`](crate::transport::ByteStream)
/// that only call the same method of the stream in a field. For wrappers of a stream, inside their
/// `impl` blocks: the field, then the names of the methods.
///
/// The methods are `poll_read`, `poll_read_vectored`, `poll_write`, `poll_write_vectored`,
/// `poll_flush`, `poll_close`, `local_address`, `peer_address`, `poll_established`, `abort` and
/// `below`, which returns the field.
///
/// ```
/// use std::{io, pin::Pin, task::{Context, Poll}};
/// use entwined::{forward_stream, transport::{AsyncRead, AsyncWrite, ByteStream}};
///
/// /// Counts the bytes that are read.
/// struct Counter<S> {
///     stream: S,
///     count: usize,
/// }
///
/// impl<S: ByteStream> AsyncRead for Counter<S> {
///     fn poll_read(
///         mut self: Pin<&mut Self>,
///         cx: &mut Context<'_>,
///         buffer: &mut [u8],
///     ) -> Poll<io::Result<usize>> {
///         let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
///         if let Poll::Ready(Ok(count)) = read {
///             self.count += count;
///         }
///         read
///     }
/// }
///
/// impl<S: ByteStream> AsyncWrite for Counter<S> {
///     forward_stream!(stream: poll_write, poll_write_vectored, poll_flush, poll_close);
/// }
///
/// impl<S: ByteStream> ByteStream for Counter<S> {
///     forward_stream!(stream: local_address, peer_address, poll_established, abort, below);
/// }
/// ```
#[macro_export]
macro_rules! forward_stream {
    ($field:ident: $($method:ident),+ $(,)?) => {
        $($crate::forward_stream!(@$method $field);)+
    };
    (@poll_read $field:ident) => {
        fn poll_read(
            mut self: ::std::pin::Pin<&mut Self>,
            cx: &mut ::std::task::Context<'_>,
            buffer: &mut [u8],
        ) -> ::std::task::Poll<::std::io::Result<usize>> {
            let stream = ::std::pin::Pin::new(&mut self.$field);
            $crate::transport::AsyncRead::poll_read(stream, cx, buffer)
        }
    };
    (@poll_read_vectored $field:ident) => {
        fn poll_read_vectored(
            mut self: ::std::pin::Pin<&mut Self>,
            cx: &mut ::std::task::Context<'_>,
            buffers: &mut [::std::io::IoSliceMut<'_>],
        ) -> ::std::task::Poll<::std::io::Result<usize>> {
            let stream = ::std::pin::Pin::new(&mut self.$field);
            $crate::transport::AsyncRead::poll_read_vectored(stream, cx, buffers)
        }
    };
    (@poll_write $field:ident) => {
        fn poll_write(
            mut self: ::std::pin::Pin<&mut Self>,
            cx: &mut ::std::task::Context<'_>,
            buffer: &[u8],
        ) -> ::std::task::Poll<::std::io::Result<usize>> {
            let stream = ::std::pin::Pin::new(&mut self.$field);
            $crate::transport::AsyncWrite::poll_write(stream, cx, buffer)
        }
    };
    (@poll_write_vectored $field:ident) => {
        fn poll_write_vectored(
            mut self: ::std::pin::Pin<&mut Self>,
            cx: &mut ::std::task::Context<'_>,
            buffers: &[::std::io::IoSlice<'_>],
        ) -> ::std::task::Poll<::std::io::Result<usize>> {
            let stream = ::std::pin::Pin::new(&mut self.$field);
            $crate::transport::AsyncWrite::poll_write_vectored(stream, cx, buffers)
        }
    };
    (@poll_flush $field:ident) => {
        fn poll_flush(
            mut self: ::std::pin::Pin<&mut Self>,
            cx: &mut ::std::task::Context<'_>,
        ) -> ::std::task::Poll<::std::io::Result<()>> {
            let stream = ::std::pin::Pin::new(&mut self.$field);
            $crate::transport::AsyncWrite::poll_flush(stream, cx)
        }
    };
    (@poll_close $field:ident) => {
        fn poll_close(
            mut self: ::std::pin::Pin<&mut Self>,
            cx: &mut ::std::task::Context<'_>,
        ) -> ::std::task::Poll<::std::io::Result<()>> {
            let stream = ::std::pin::Pin::new(&mut self.$field);
            $crate::transport::AsyncWrite::poll_close(stream, cx)
        }
    };
    (@local_address $field:ident) => {
        fn local_address(&self) -> $crate::transport::Address {
            $crate::transport::ByteStream::local_address(&self.$field)
        }
    };
    (@peer_address $field:ident) => {
        fn peer_address(&self) -> $crate::transport::Address {
            $crate::transport::ByteStream::peer_address(&self.$field)
        }
    };
    (@poll_established $field:ident) => {
        fn poll_established(
            &mut self,
            cx: &mut ::std::task::Context<'_>,
        ) -> ::std::task::Poll<::std::io::Result<()>> {
            $crate::transport::ByteStream::poll_established(&mut self.$field, cx)
        }
    };
    (@abort $field:ident) => {
        fn abort(&mut self) {
            $crate::transport::ByteStream::abort(&mut self.$field);
        }
    };
    (@below $field:ident) => {
        fn below(&self) -> ::std::option::Option<&dyn $crate::transport::ByteStream> {
            ::std::option::Option::Some(&self.$field)
        }
    };
}
