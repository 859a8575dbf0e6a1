"""google.rpc.Status and RetryInfo as their .proto files have them, built without googleapis."""

from __future__ import annotations

from typing import Any

from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, duration_pb2, message_factory

_Field = descriptor_pb2.FieldDescriptorProto


def _messages() -> tuple[Any, Any]:
    pool = descriptor_pool.DescriptorPool()
    for module in (any_pb2, duration_pb2):
        file = descriptor_pb2.FileDescriptorProto()
        module.DESCRIPTOR.CopyToProto(file)
        pool.Add(file)
    file = descriptor_pb2.FileDescriptorProto(name="rpc.proto", package="google.rpc", syntax="proto3")
    file.dependency.extend([any_pb2.DESCRIPTOR.name, duration_pb2.DESCRIPTOR.name])
    status = file.message_type.add(name="Status")
    status.field.add(name="code", number=1, type=_Field.TYPE_INT32, label=_Field.LABEL_OPTIONAL)
    status.field.add(name="message", number=2, type=_Field.TYPE_STRING, label=_Field.LABEL_OPTIONAL)
    status.field.add(
        name="details",
        number=3,
        type=_Field.TYPE_MESSAGE,
        type_name=".google.protobuf.Any",
        label=_Field.LABEL_REPEATED,
    )
    retry = file.message_type.add(name="RetryInfo")
    retry.field.add(
        name="retry_delay",
        number=1,
        type=_Field.TYPE_MESSAGE,
        type_name=".google.protobuf.Duration",
        label=_Field.LABEL_OPTIONAL,
    )
    pool.Add(file)
    names = ("google.rpc.Status", "google.rpc.RetryInfo")
    status_class, retry_class = (
        message_factory.GetMessageClass(pool.FindMessageTypeByName(name)) for name in names
    )
    return status_class, retry_class


Status, RetryInfo = _messages()


def retry_delay_s(status: Any) -> int | None:
    """The seconds in the RetryInfo of a Status; None without one."""
    for detail in status.details:
        assert detail.type_url == "type.googleapis.com/google.rpc.RetryInfo"
        return int(RetryInfo.FromString(detail.value).retry_delay.seconds)
    return None
