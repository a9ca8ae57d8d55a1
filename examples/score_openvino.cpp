// Scores one raw image by what `unlike export --to openvino` wrote.
//
//   score_openvino bottle.openvino/model.xml pixels.raw
//
// pixels.raw holds height x width x channels values of the graph's type, as the README in the folder says: for uint8 the bytes of the
// image row by row, its colours in the order red, green, blue. Prints the score and the largest value of the map.
//
// OpenVINO's headers and libraries are in its Python package:
//   OV=$(python -c "import openvino, os; print(os.path.dirname(openvino.__file__))")
//   g++ -std=c++17 score_openvino.cpp -I"$OV/include" -L"$OV/libs" -l:$(basename "$OV"/libs/libopenvino.so.*) -Wl,-rpath,"$OV/libs" -o score_openvino
#include <algorithm>
#include <fstream>
#include <iostream>
#include <stdexcept>

#include <openvino/openvino.hpp>

int main(int count, char** arguments) {
    if (count != 3) {
        std::cerr << "usage: score_openvino MODEL.xml PIXELS.raw\n";
        return 2;
    }
    try {
        ov::Core core;
        // single precision, whatever the processor would rather do: otherwise the scores are others
        auto model = core.compile_model(arguments[1], "CPU", ov::hint::inference_precision(ov::element::f32));
        auto input = model.input("pixels");
        ov::PartialShape shape = input.get_partial_shape();
        shape[0] = 1;  // one image; any number can be given at once
        ov::Tensor pixels(input.get_element_type(), shape.to_shape());
        std::ifstream file(arguments[2], std::ios::binary);
        file.read(static_cast<char*>(pixels.data()), static_cast<std::streamsize>(pixels.get_byte_size()));
        if (static_cast<size_t>(file.gcount()) != pixels.get_byte_size() || file.peek() != std::ifstream::traits_type::eof())
            throw std::runtime_error("expected " + std::to_string(pixels.get_byte_size()) + " bytes of pixels");
        auto request = model.create_infer_request();
        request.set_tensor("pixels", pixels);
        request.infer();
        const ov::Tensor maps = request.get_tensor("maps");
        const float* values = maps.data<float>();
        std::cout.precision(9);
        std::cout << request.get_tensor("scores").data<float>()[0] << ' ' << *std::max_element(values, values + maps.get_size()) << '\n';
    } catch (const std::exception& error) {
        std::cerr << "score_openvino: " << error.what() << '\n';
        return 2;
    }
}
