package promptmill;

import org.apache.beam.model.pipeline.v1.RunnerApi;
import org.apache.beam.sdk.util.construction.NativeTransforms;

/** Keeps the fuser from looking inside Reshuffle: Flink does it by rebalancing. */
public class ReshuffleIsNative implements NativeTransforms.IsNativeTransform {
  @Override
  public boolean test(RunnerApi.PTransform t) {
    return Translation.RESHUFFLE.equals(t.getSpec().getUrn());
  }
}
