//! Generated gRPC code of proto/ and the conversions between wire and model.
