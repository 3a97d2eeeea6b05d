"""Messages of the kubelet's gRPC APIs, made of the .proto files beside this one.

With the package grpcio-tools, in the root of the repository::

    python -m grpc_tools.protoc -I . --python_out=. --pyi_out=. conformance/deviceplugin/api/*.proto
"""
