//! What makes a `#[test]` of each test.

/// Makes a `#[test]` of each test of the suite, on a [`Harness`](crate::Harness).
///
/// ```
/// use entwined::Standalone;
/// use entwined_conformance::ByHand;
///
/// entwined_conformance::conformance!(ByHand<Standalone>);
/// ```
///
/// Put it into a test file of its own: some of the tests need the process to themselves.
#[macro_export]
macro_rules! conformance {
    ($harness:ty) => {
        $crate::__for_each_conformance_test! { $crate::__conformance_tests ! [$harness] }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_tests {
    ([$harness:ty] $(
        $group:ident $(over $carriers:ident)? $(when $feature:ident)?
        { $($tests:tt)* }
    )*) => {
        $($crate::__conformance_group! {
            [$harness] $group $($carriers)? $(when $feature)? { $($tests)* }
        })*
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_group {
    ([$harness:ty] $group:ident { $($name:ident $($demand:ident)?,)* }) => {
        $(
            #[test]
            fn $name() {
                $crate::check::<$harness>(stringify!($name));
            }
        )*
    };
    ([$harness:ty] $group:ident when http $tests:tt) => {
        $crate::__with_http! { $crate::__conformance_group! { [$harness] $group $tests } }
    };
    ([$harness:ty] $group:ident when tls $tests:tt) => {
        $crate::__with_tls! { $crate::__conformance_group! { [$harness] $group $tests } }
    };
    ([$harness:ty] $group:ident when unix $tests:tt) => {
        $crate::__on_unix! { $crate::__conformance_group! { [$harness] $group $tests } }
    };
    ([$harness:ty] $group:ident carriers $tests:tt) => {
        mod $group {
            $crate::__conformance_over! { [$harness] tcp "_over_tcp" $tests }
            $crate::__on_unix! {
                $crate::__conformance_over! { [$harness] unix "_over_unix" $tests }
            }
            $crate::__with_tls! {
                $crate::__conformance_over! { [$harness] tls "_over_tls" $tests }
            }
            $crate::__on_unix! {
                $crate::__conformance_over! { [$harness] pipes "_over_pipes" $tests }
            }
            $crate::__conformance_over! { [$harness] memory "_over_memory" $tests }
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_over {
    ([$harness:ty] $carrier:ident $suffix:literal { $($name:ident $($demand:ident)?,)* }) => {
        mod $carrier {
            // The module that names the harness.
            use super::super::*;

            $(
                #[test]
                fn $name() {
                    $crate::check::<$harness>(concat!(stringify!($name), $suffix));
                }
            )*
        }
    };
}

/// The rows of what only Unix has: its sockets, pipes, signals, passed fds.
#[cfg(unix)]
#[doc(hidden)]
#[macro_export]
macro_rules! __on_unix {
    ($($rows:tt)*) => { $($rows)* };
}

#[cfg(not(unix))]
#[doc(hidden)]
#[macro_export]
macro_rules! __on_unix {
    ($($rows:tt)*) => {};
}

/// The rows that need an HTTP server are there with the feature `http`.
#[cfg(feature = "http")]
#[doc(hidden)]
#[macro_export]
macro_rules! __with_http {
    ($($rows:tt)*) => { $($rows)* };
}

#[cfg(not(feature = "http"))]
#[doc(hidden)]
#[macro_export]
macro_rules! __with_http {
    ($($rows:tt)*) => {};
}

/// The rows that need TLS are there with the feature `tls`.
#[cfg(feature = "tls")]
#[doc(hidden)]
#[macro_export]
macro_rules! __with_tls {
    ($($rows:tt)*) => { $($rows)* };
}

#[cfg(not(feature = "tls"))]
#[doc(hidden)]
#[macro_export]
macro_rules! __with_tls {
    ($($rows:tt)*) => {};
}
