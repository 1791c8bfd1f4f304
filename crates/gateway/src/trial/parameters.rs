//! Query and fields that rules read: each once, in one spelling, and after the caller is known.

use http::StatusCode;

use super::judged::noted;
use super::*;

#[test]
fn a_query_has_no_twin() {
    run(async |setup| {
        let (trial, notes) = noted(setup).await;
        let token = trial.token(&trial.user());
        for (query, status, reason) in [
            ("?account=a1", 200, "portcullis.toml:24.1"),
            ("?account=a1&other=a2&other=a3", 200, "portcullis.toml:24.1"),
            ("?account=a2", 403, "ConditionFalse"),
            ("", 403, "ConditionFalse"),
            ("?account=a1&account=a2", 400, "ParameterDoubled"),
            ("?account=a2&account=a1", 400, "ParameterDoubled"),
            ("?account=a1&account=a1", 400, "ParameterDoubled"),
            ("?account=a1&Account=a2", 400, "ParameterDoubled"),
            ("?account=a1&%61ccount=a2", 400, "ParameterDoubled"),
            ("?account=a1&account[]=a2", 400, "ParameterDoubled"),
            ("?account=a1;account=a2", 400, "ParameterDoubled"),
            ("?ACCOUNT=a1", 400, "ParameterMisspelt"),
            ("?account", 400, "ParameterIllTyped"),
            ("?account=%61%31", 400, "ParameterIllTyped"),
            ("?account=a1+", 400, "ParameterIllTyped"),
        ] {
            for method in ["GET", "HEAD"] {
                let mut request = get(&format!("/v1/search{query}"), Some(&token));
                *request.method_mut() = method.parse().unwrap();
                let seen = trial.ask(request).await;
                assert_eq!(seen.status.as_u16(), status, "{query}: {:?}", trial.records.last());
                assert_eq!(trial.records.last().reason, reason, "{query}");
                if status == 400 && method == "GET" {
                    assert_eq!(seen.json()["code"], "invalid_parameter");
                }
            }
        }
        let served = notes.served();
        assert_eq!(served.len(), 4);
        assert_eq!(served[0].line, "GET /base/search?account=a1", "byte for byte");
    });
}

#[test]
fn a_field_has_no_twin() {
    run(async |setup| {
        let (trial, notes) = noted(setup).await;
        let token = trial.token(&trial.user());
        type Row<'r> = (&'r [(&'r str, &'r str)], u16, &'r str);
        let table: [Row<'_>; 9] = [
            (&[("x-account", "a1")], 200, ""),
            (&[("x-account", "a2")], 403, "ConditionFalse"),
            (&[], 403, "ConditionFalse"),
            (&[("x-account", "a1"), ("x-account", "a2")], 400, "ParameterDoubled"),
            (&[("x-account", "a1"), ("x-account", "a1")], 400, "ParameterDoubled"),
            (&[("x-account", "a1, a2")], 403, "ConditionFalse"),
            // CGI and the like read these as one.
            (&[("x-account", "a1"), ("x_account", "a2")], 400, "ParameterDoubled"),
            (&[("x_account", "a1")], 400, "ParameterDoubled"),
            (&[("x.account", "a1"), ("x-account", "a1")], 400, "ParameterDoubled"),
        ];
        for (fields, status, reason) in table {
            let mut request = get("/doc/tagged", Some(&token));
            for (name, value) in fields {
                let name = http::HeaderName::from_bytes(name.as_bytes()).unwrap();
                request.headers_mut().append(name, value.parse().unwrap());
            }
            let seen = trial.ask(request).await;
            assert_eq!(seen.status.as_u16(), status, "{fields:?}: {:?}", trial.records.last());
            assert!(status == 200 || trial.records.last().reason == reason, "{fields:?}");
        }
        let mut request = get("/doc/tagged", Some(&token));
        let opaque = http::HeaderValue::from_bytes(b"a1\xff").unwrap();
        request.headers_mut().insert("x-account", opaque);
        assert_eq!(trial.ask(request).await.status, StatusCode::BAD_REQUEST);
        assert_eq!(notes.served().len(), 1);
    });
}

#[test]
fn parameters_are_read_after_the_caller_and_its_limits() {
    run(async |setup| {
        let setup = setup.limit("default", "60/min per caller, burst 2");
        let trial = setup.start().await;
        let token = trial.token(&trial.user());
        let twice = "/v1/search?account=a1&account=a2";
        assert_eq!(trial.get(twice, None).await.status, StatusCode::UNAUTHORIZED);
        let mut statuses = Vec::new();
        for _ in 0..3 {
            statuses.push(trial.get(twice, Some(&token)).await.status.as_u16());
        }
        assert_eq!(statuses, [400, 400, 429]);
    });
}
