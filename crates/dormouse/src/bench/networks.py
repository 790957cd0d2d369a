"""Two functions that recognise images: ResNet-50 and AlexNet, layer by layer as published, with random weights.

usage: networks.py NAME FOLDER
writes the weights to a file in the folder, for the first of torch and onnxruntime that can be imported, and says which
in the file `engine`. Time and memory of an inference do not depend on what the weights are.
"""

import hashlib
import os
import sys

import numpy as np

SEED = 20150331
# Of the pictures that both networks were published for.
IMAGE = (1, 3, 224, 224)
NO_ENGINE = (
    "error: neither torch (Debian: apt install python3-torch, DORMOUSE_PYTHON=/usr/bin/python3) "
    "nor onnxruntime (pip install onnxruntime onnx) can be imported"
)


class Network:
    """A list of steps. Each takes the values of steps before it, by number (0 is the image), and weights, by name."""

    def __init__(self):
        self.steps, self.shapes, self.last_use = [], {}, {}

    def step(self, kind, values, shapes=(), **how):
        number = len(self.steps) + 1
        names = [f"{number}.{kind}.{nth}" for nth in range(len(shapes))]
        self.shapes.update(zip(names, shapes))
        self.last_use.update((value, number) for value in values)
        self.steps.append((kind, values, names, how))
        return number

    def conv(self, x, channels, out, size, stride=1, pad=0, bias=True):
        shapes = [(out, channels, size, size)] + [(out,)] * bias
        return self.step("conv", [x], shapes, stride=stride, pad=pad)

    def conv_norm(self, x, channels, out, size, stride=1, pad=0):
        x = self.conv(x, channels, out, size, stride, pad, bias=False)
        return self.step("norm", [x], [(out,)] * 4)

    def relu(self, x):
        return self.step("relu", [x])

    def pool(self, x, size, stride, pad=0):
        return self.step("pool", [x], size=size, stride=stride, pad=pad)

    def linear(self, x, inputs, outputs):
        return self.step("linear", [x], [(outputs, inputs), (outputs,)])


def alexnet():
    net = Network()
    x = net.pool(net.relu(net.conv(0, 3, 64, 11, 4, 2)), 3, 2)
    x = net.pool(net.relu(net.conv(x, 64, 192, 5, 1, 2)), 3, 2)
    for channels, out in (192, 384), (384, 256), (256, 256):
        x = net.relu(net.conv(x, channels, out, 3, 1, 1))
    x = net.step("flatten", [net.pool(x, 3, 2)])
    x = net.relu(net.linear(x, 256 * 6 * 6, 4096))
    net.linear(net.relu(net.linear(x, 4096, 4096)), 4096, 1000)
    return net


def resnet50():
    net = Network()
    x = net.pool(net.relu(net.conv_norm(0, 3, 64, 7, 2, 3)), 3, 2, 1)
    channels = 64
    for stage, blocks in enumerate((3, 4, 6, 3)):
        width = 64 << stage
        for block in range(blocks):
            stride = 2 if stage > 0 and block == 0 else 1
            y = net.relu(net.conv_norm(x, channels, width, 1))
            y = net.relu(net.conv_norm(y, width, width, 3, stride, 1))
            y = net.conv_norm(y, width, 4 * width, 1)
            beside = x if block else net.conv_norm(x, channels, 4 * width, 1, stride)
            x = net.relu(net.step("add", [y, beside]))
            channels = 4 * width
    net.linear(net.step("flatten", [net.step("average", [x])]), channels, 1000)
    return net


NETWORKS = {"alexnet": alexnet, "resnet50": resnet50}


def random_weights(net):
    """Scaled so that what passes through the layers neither fades nor explodes."""
    numbers = np.random.default_rng(SEED)
    for name, shape in net.shapes.items():
        inputs = int(np.prod(shape[1:]))
        yield name, numbers.standard_normal(shape, dtype=np.float32) * np.float32((2 / inputs) ** 0.5)


def norm_weights(net, weights):
    """Scale and variance of a normalisation are positive, and near one."""
    for kind, _, names, _ in net.steps:
        if kind == "norm":
            for name in names[0], names[3]:
                weights[name] = 1 + np.abs(weights[name]) / 8
    return weights


class Torch:
    SUFFIX = "pt"

    @staticmethod
    def write(net, weights, path):
        import torch

        torch.save({name: torch.from_numpy(array) for name, array in weights.items()}, path)
        return f"torch {torch.__version__}"

    def __init__(self, net, path):
        import torch
        import torch.nn.functional as layer

        torch.set_num_threads(1)
        self.torch, self.net, self.weights = torch, net, torch.load(path)
        self.layers = {
            "conv": lambda x, w, stride, pad: layer.conv2d(x, *w, stride=stride, padding=pad)
            if len(w) == 2
            else layer.conv2d(x, w[0], None, stride, pad),
            "norm": lambda x, w: layer.batch_norm(x, w[2], w[3], w[0], w[1]),
            "relu": lambda x, w: layer.relu(x),
            "pool": lambda x, w, size, stride, pad: layer.max_pool2d(x, size, stride, pad),
            "average": lambda x, w: x.mean((2, 3), keepdim=True),
            "flatten": lambda x, w: x.flatten(1),
            "linear": lambda x, w: layer.linear(x, *w),
        }

    def run(self, image):
        values = {0: self.torch.from_numpy(image)}
        with self.torch.no_grad():
            for number, (kind, sources, names, how) in enumerate(self.net.steps, 1):
                first, *others = (values[source] for source in sources)
                if kind == "add":
                    values[number] = first + others[0]
                else:
                    values[number] = self.layers[kind](first, [self.weights[name] for name in names], **how)
                del first, others
                # What nobody needs any more goes at once, as in a module of torch.
                for source in set(sources):
                    if self.net.last_use[source] == number:
                        del values[source]
        return values[len(self.net.steps)].numpy()


class Onnx:
    SUFFIX = "onnx"
    # The oldest that has all operators in this form; every onnxruntime of these years reads it.
    OPSET, FORMAT = 13, 8
    OPERATORS = {
        "conv": "Conv",
        "norm": "BatchNormalization",
        "relu": "Relu",
        "add": "Add",
        "pool": "MaxPool",
        "average": "GlobalAveragePool",
        "flatten": "Flatten",
        "linear": "Gemm",
    }

    @classmethod
    def write(cls, net, weights, path):
        import onnx
        import onnxruntime
        from onnx import helper, numpy_helper

        nodes = []
        for number, (kind, sources, names, how) in enumerate(net.steps, 1):
            attributes = {"transB": 1} if kind == "linear" else {}
            if "stride" in how:
                size = how.get("size") or net.shapes[names[0]][2]
                attributes = {"strides": [how["stride"]] * 2, "pads": [how["pad"]] * 4, "kernel_shape": [size] * 2}
            inputs = [f"value{source}" for source in sources] + names
            nodes.append(helper.make_node(cls.OPERATORS[kind], inputs, [f"value{number}"], **attributes))
        value = lambda number, shape: helper.make_tensor_value_info(f"value{number}", onnx.TensorProto.FLOAT, shape)
        arrays = [numpy_helper.from_array(array, name) for name, array in weights.items()]
        graph = helper.make_graph(nodes, "network", [value(0, IMAGE)], [value(len(nodes), (1, 1000))], arrays)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", cls.OPSET)], ir_version=cls.FORMAT)
        onnx.save(model, path)
        return f"onnxruntime {onnxruntime.__version__}"

    def __init__(self, net, path):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(self, image):
        return self.session.run(None, {"value0": image})[0]


ENGINES = [Torch, Onnx]


def function(name, folder):
    """From the number of a picture to what the network says of it, to the last bit."""
    for engine in ENGINES:
        path = os.path.join(folder, f"{name}.{engine.SUFFIX}")
        if os.path.exists(path):
            network = engine(NETWORKS[name](), path)

    def answer(n):
        scores = network.run(np.random.default_rng(n).random(IMAGE, dtype=np.float32))
        return f"{scores.argmax()} {hashlib.sha256(scores.tobytes()).hexdigest()}"

    return answer


def main():
    name, folder = sys.argv[1:]
    net = NETWORKS[name]()
    weights = norm_weights(net, dict(random_weights(net)))
    for engine in ENGINES:
        try:
            said = engine.write(net, weights, os.path.join(folder, f"{name}.{engine.SUFFIX}"))
        except ImportError:
            continue
        with open(os.path.join(folder, "engine"), "w") as file:
            file.write(said)
        return
    sys.exit(NO_ENGINE)


if __name__ == "__main__":
    main()
