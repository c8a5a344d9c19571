//! What JSON bodies may be made of, where serde would take more or less than the API's description says.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Unexpected, Visitor};

/// A JSON object. serde takes a list of a structure's fields as well, in the order in which the code declares them, and
/// what that order is is nobody's concern.
#[derive(Debug)]
pub(crate) struct Object<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map))
            }
        }

        deserializer.deserialize_map(Fields(PhantomData)).map(Self)
    }
}

/// A whole number, also one that is written with a fraction of nothing, such as `60.0`, as some languages write all
/// numbers.
struct Whole(i128);

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number;

        impl Visitor<'_> for Number {
            type Value = Whole;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number")
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Whole, E> {
                Ok(Whole(number.into()))
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Whole, E> {
                Ok(Whole(number.into()))
            }

            #[expect(clippy::cast_possible_truncation, reason = "it has no fraction, and ends at the bounds")]
            fn visit_f64<E: Error>(self, number: f64) -> Result<Whole, E> {
                match number.fract() == 0.0 {
                    true => Ok(Whole(number as i128)),
                    false => Err(E::invalid_value(Unexpected::Float(number), &self)),
                }
            }
        }

        deserializer.deserialize_any(Number)
    }
}

/// A number of seconds, or none. What is beyond an `i64` is its nearest bound, for callers to refuse like all that is
/// too long.
pub(crate) fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    let bounded = |Whole(number)| i64::try_from(number).unwrap_or(if number < 0 { i64::MIN } else { i64::MAX });
    Ok(Option::deserialize(deserializer)?.map(bounded))
}

/// A number of things. What is beyond a `u64` is its end; what is below nothing is an error.
pub(crate) fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    Count::deserialize(deserializer).map(|Count(count)| count)
}

/// A number as [`count`] reads it.
pub(crate) struct Count(pub(crate) u64);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Whole(number) = Whole::deserialize(deserializer)?;
        match u64::try_from(number) {
            Ok(number) => Ok(Self(number)),
            Err(_) if number < 0 => Err(D::Error::custom("a number below 0")),
            Err(_) => Ok(Self(u64::MAX)),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Default, Deserialize)]
    #[serde(default)]
    struct Body {
        #[serde(deserialize_with = "seconds")]
        seconds: Option<i64>,
        #[serde(deserialize_with = "count")]
        count: u64,
        git: Option<Object<Inner>>,
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(default)]
    struct Inner {
        _branch: Option<String>,
    }

    #[test]
    fn an_object_is_no_list() {
        for (json, is_taken) in [
            ("{}", true),
            (r#"{"git":{}}"#, true),
            (r#"{"git":null}"#, true),
            (r#"{"unknown":[]}"#, true),
            ("[]", false),
            ("[null,0,null]", false),
            (r#"{"git":[]}"#, false),
            (r#"{"git":[null]}"#, false),
            ("null", false),
            ("1", false),
        ] {
            let read: Result<Object<Body>, _> = serde_json::from_str(json);
            assert_eq!(read.is_ok(), is_taken, "{json}");
            if let Ok(Object(body)) = read {
                assert_eq!(body.git.is_some(), json.contains(r#""git":{"#), "{json}");
            }
        }
    }

    #[test]
    fn whole_numbers_are_taken_however_they_are_written() {
        for (number, seconds, count) in [
            ("60", Some(60), Some(60)),
            ("60.0", Some(60), Some(60)),
            ("6e1", Some(60), Some(60)),
            ("-60", Some(-60), None),
            ("18446744073709551615", Some(i64::MAX), Some(u64::MAX)),
            ("1e300", Some(i64::MAX), Some(u64::MAX)),
            ("-1e300", Some(i64::MIN), None),
            ("60.5", None, None),
            (r#""60""#, None, None),
            ("true", None, None),
        ] {
            let read = |key: &str| serde_json::from_str::<Body>(&format!("{{\"{key}\":{number}}}")).ok();
            assert_eq!(read("seconds").and_then(|body| body.seconds), seconds, "{number}");
            assert_eq!(read("count").map(|body| body.count), count, "{number}");
        }
        assert_eq!(serde_json::from_str::<Body>(r#"{"seconds":null}"#).unwrap().seconds, None);
    }
}
